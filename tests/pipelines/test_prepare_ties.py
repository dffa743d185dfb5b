"""Rows of a user with the same time: a draw orders them, ids do not; what is below a millisecond does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prepare_kit import inline_prepare

from distill_at_scale.data import splits
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation.ranking import evaluate
from distill_at_scale.models import create_model

DAY = 86_400
USERS, ITEMS = 600, 40


def by_the_day(seed: int) -> pl.DataFrame:
    """A log by the day: every user's twelve rows lie on three days; an item is the likelier the lower its number."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, ITEMS + 1)
    items = np.concatenate([rng.choice(ITEMS, 12, replace=False, p=weights / weights.sum()) for _ in range(USERS)])
    days = np.tile(np.repeat(np.arange(3), 4), USERS)
    return pl.DataFrame(
        {"user_id": np.repeat(np.arange(USERS), 12), "item_id": items, "timestamp": 1_600_000_000 + days * DAY}
    )


def prepared(folder: Path, log: pl.DataFrame, **asked: object) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    log.write_parquet(folder / "log.parquet")
    return inline_prepare(input=[str(folder / "log.parquet")], output=str(folder / "out"), **asked)


def test_no_metric_depends_on_the_order_of_item_ids(tmp_path: Path) -> None:
    """The same log with its item ids turned round: what differs is noise, where ids as ties would decide it all."""
    log = by_the_day(0)
    found = {}
    for name, renamed in {"as it is": log, "turned round": log.with_columns(item_id=ITEMS - pl.col("item_id"))}.items():
        for seed in range(3):
            data = prepared(tmp_path / f"{name}-{seed}", renamed, seed=seed)
            for model in ("popularity", "ease"):
                fitted = create_model(model, {"lam": 50.0} if model == "ease" else {})
                fitted.fit(data.interactions("train"))
                histories, heldout = data.histories("test", 0)
                result = evaluate(
                    fitted.score, histories, heldout, data.train_counts(), data.manifest.splits["train"], (10,)
                )
                found.setdefault((model, name), []).append(result.metrics["ndcg@10"])
                error = result.standard_errors["ndcg@10"]
    for model in ("popularity", "ease"):
        one, other = (np.mean(found[model, name]) for name in ("as it is", "turned round"))
        assert abs(one - other) < 3 * error * np.sqrt(2 / 3), (model, found)


def test_any_of_the_last_rows_may_be_held_out(tmp_path: Path) -> None:
    """Where all of a user's rows have one time, every place in the order of ids is as likely to be held out."""
    log = pl.DataFrame(
        {"user_id": np.repeat(np.arange(3000), 4), "item_id": np.tile(np.arange(4), 3000), "timestamp": 1_600_000_000}
    )
    data = prepared(tmp_path, log)
    for split in ("validation", "test"):
        counts = data.interactions(split).item_counts()
        # Four equal shares of 3,000 have a standard deviation of 24.
        assert np.abs(counts - 750).max() < 100, counts
    assert data.manifest.tied == {"validation": 3000, "test": 3000}
    other = prepared(tmp_path / "other", log, seed=1)
    assert (other.interactions("test").items != data.interactions("test").items).mean() > 0.6


def test_what_lies_below_a_millisecond_orders_rows(tmp_path: Path) -> None:
    """Three rows of each user within one millisecond of a log in microseconds, the later the smaller its item id."""
    n = 200
    micro = 1_600_000_000_000_000 + np.tile(np.array([1, 2, 3]), n)
    log = pl.DataFrame({"user_id": np.repeat(np.arange(n), 3), "item_id": np.tile([3, 2, 1], n), "timestamp": micro})
    data = prepared(tmp_path, log)
    names = data.items()["item_id"].to_numpy()
    assert (names[data.interactions("test").items] == 1).all()
    assert (names[data.interactions("validation").items] == 2).all()
    assert data.manifest.tied == {"validation": 0, "test": 0}
    assert (data.interactions("test").timestamps == 1_600_000_000_000).all()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([[1, 2, 3]], (0, 0)),
        ([[1, 3, 3]], (1, 1)),
        ([[1, 1, 2]], (1, 0)),
        ([[2, 2, 2]], (1, 1)),
        ([[1, 1, 2, 3]], (0, 0)),
        ([[1, 2, 3], [3, 3, 3], [3, 4, 4]], (2, 2)),
    ],
)
def test_tied(times: list[list[int]], expected: tuple[int, int]) -> None:
    offsets = np.concatenate(([0], np.cumsum([len(t) for t in times])))
    found = splits.tied(offsets, np.concatenate(times), splits.leave_2(offsets))
    assert (found["validation"], found["test"]) == expected
