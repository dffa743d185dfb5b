"""Cuts of a log hold what their names say, and a log read back from a dataset is the log."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from distill_at_scale.errors import DasError
from distill_at_scale.genie import log_subsets

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


def make_log(n: int = 2000, seed: int = 3) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": (rng.pareto(1.0, n) * 10).astype(np.int64) % 80,
            "item_id": (rng.pareto(1.0, n) * 10).astype(np.int64) % 60,
            "timestamp": rng.permutation(n).astype(np.int64),
        }
    ).unique(["user_id", "item_id"], maintain_order=True)


def degrees(log: pl.DataFrame, column: str) -> dict[int, int]:
    return {row[0]: row[1] for row in log.group_by(column).len().iter_rows()}


def test_users_and_items_are_kept_whole() -> None:
    log = make_log()
    all_users, all_items = degrees(log, "user_id"), degrees(log, "item_id")
    for cut in (
        log_subsets.random_users(log, 20),
        log_subsets.active_users(log, 20),
        log_subsets.active_users(log, 20, most=False),
    ):
        kept = degrees(cut, "user_id")
        assert len(kept) == 20
        assert all(all_users[user] == n for user, n in kept.items())
    for cut in (log_subsets.popular_items(log, 15), log_subsets.popular_items(log, 15, most=False)):
        kept = degrees(cut, "item_id")
        assert len(kept) == 15
        assert all(all_items[item] == n for item, n in kept.items())


def test_most_and_least_are_by_rows() -> None:
    log = make_log()
    of_users = sorted(degrees(log, "user_id").values())
    assert sorted(degrees(log_subsets.active_users(log, 10), "user_id").values()) == of_users[-10:]
    assert sorted(degrees(log_subsets.active_users(log, 10, most=False), "user_id").values()) == of_users[:10]
    of_items = sorted(degrees(log, "item_id").values())
    assert sorted(degrees(log_subsets.popular_items(log, 10), "item_id").values()) == of_items[-10:]


def test_random_users_depend_on_the_seed_alone() -> None:
    log = make_log()
    shuffled = log.sample(fraction=1.0, shuffle=True, seed=1)
    assert degrees(log_subsets.random_users(log, 9), "user_id") == degrees(
        log_subsets.random_users(shuffled, 9), "user_id"
    )
    assert degrees(log_subsets.random_users(log, 9), "user_id") != degrees(
        log_subsets.random_users(log, 9, seed=1), "user_id"
    )


def test_a_window_is_a_share_of_the_rows_by_time() -> None:
    log = make_log()
    cut = log_subsets.window(log, 0.25, 0.75)
    assert cut.height == round(0.75 * log.height) - round(0.25 * log.height)
    before = log.filter(pl.col("timestamp") < cut["timestamp"].min()).height  # type: ignore[operator]
    assert before == round(0.25 * log.height)
    with pytest.raises(DasError, match="no timestamps"):
        log_subsets.window(log.drop("timestamp"), 0, 0.5)


@pytest.mark.parametrize("k", [2, 5, 9])
def test_the_core_is_the_largest(k: int) -> None:
    log = make_log()
    rows = set(log.select("user_id", "item_id").iter_rows())
    while True:
        users, items = [u for u, _ in rows], [i for _, i in rows]
        left = {(u, i) for u, i in rows if users.count(u) >= k and items.count(i) >= k}
        if left == rows:
            break
        rows = left
    assert set(log_subsets.k_core(log, k).select("user_id", "item_id").iter_rows()) == rows


def test_a_log_is_read_back_with_its_own_ids(tmp_path: Path) -> None:
    shards = [[(0, 2, 4.0, 10, 0), (0, 1, 5.0, 20, 1), (1, 0, 3.0, 15, 0)], [(2, 2, 1.0, 5, 2)]]
    dataset = write_dataset(tmp_path, shards, [2, 1], 3)
    found = log_subsets.read_log(dataset)
    assert sorted(found.iter_rows()) == [
        ("u0", 10, 5.0, 20),
        ("u0", 20, 4.0, 10),
        ("u1", 0, 3.0, 15),
        ("u2", 20, 1.0, 5),
    ]
    assert found.columns == ["user_id", "item_id", "rating", "timestamp"]
