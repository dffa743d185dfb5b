"""Generated logs have the properties that their design asks for, and the corpus is what its names say."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from distill_at_scale.errors import DasError
from distill_at_scale.genie.corpus import SOURCES, corpus, designs, family
from distill_at_scale.genie.synthetic_logs import LogDesign, generate_log

SMALL = {"users": 300, "items": 120, "mean_rows": 12.0, "seed": 1}


def log(**properties: float) -> pl.DataFrame:
    return generate_log(LogDesign(**{**SMALL, **properties}))  # type: ignore[arg-type]


def gini(counts: np.ndarray) -> float:
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    return float(differences / (2 * counts.mean()))


def counts(frame: pl.DataFrame, column: str) -> np.ndarray:
    return frame.group_by(column).len()["len"].to_numpy().astype(float)


def test_a_log_is_whole_and_the_same_for_the_same_seed() -> None:
    frame = log()
    assert frame.equals(log())
    assert not frame.equals(log(seed=2))
    assert frame.schema == {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
    }
    assert frame.select("user_id", "item_id").is_unique().all()
    assert set(frame["rating"].unique()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    of_users = counts(frame, "user_id")
    assert len(of_users) == 300
    assert of_users.min() >= 5
    assert of_users.max() <= 60
    # Each user's times ascend in the order in which the rows were drawn.
    assert frame.group_by("user_id").agg((pl.col("timestamp").diff().drop_nulls() >= 0).all())["timestamp"].all()


def test_tails_follow_the_design() -> None:
    assert gini(counts(log(popularity_tail=1.3, taste=0, links=0), "item_id")) > 0.3 + gini(
        counts(log(popularity_tail=0.0, taste=0, links=0), "item_id")
    )
    assert gini(counts(log(activity_tail=1.0), "user_id")) > 0.15 + gini(counts(log(activity_tail=0.2), "user_id"))


def shared_items(frame: pl.DataFrame) -> float:
    """Variance of the number of items that two users share: high where users come in kinds."""
    matrix = np.zeros((300, 120))
    matrix[frame["user_id"], frame["item_id"]] = 1
    matrix /= np.sqrt(matrix.sum(1, keepdims=True))
    common = matrix @ matrix.T
    return float(common[np.triu_indices(300, 1)].var())


def test_taste_makes_kinds_of_users_and_noise_hides_them() -> None:
    flat = {"popularity_tail": 0.0, "links": 0.0}
    none, pure = shared_items(log(taste=0.0, **flat)), shared_items(log(taste=3.0, **flat))
    noisy = shared_items(log(taste=3.0, noise=0.8, **flat))
    assert pure > 1.4 * none
    assert noisy - none < 0.5 * (pure - none)


def test_links_make_items_follow_one_another() -> None:
    def repeated(frame: pl.DataFrame) -> float:
        """Share of steps from an item to the one that most often follows it."""
        steps = frame.select(
            first="item_id", second=pl.col("item_id").shift(-1), user="user_id", after=pl.col("user_id").shift(-1)
        )
        steps = steps.filter(pl.col("user") == pl.col("after")).group_by("first", "second").len()
        best = steps.group_by("first").agg(pl.col("len").max(), pl.col("len").sum().alias("all"))
        return float(best["len"].sum() / best["all"].sum())

    assert repeated(log(links=5.0)) > 2 * repeated(log(links=0.0))


def test_drift_parts_the_early_from_the_late() -> None:
    def overlap(frame: pl.DataFrame) -> float:
        late = frame["timestamp"] > frame["timestamp"].median()
        halves = [np.bincount(frame.filter(side)["item_id"], minlength=120) for side in (late, ~late)]
        return float(np.minimum(*(half / half.sum() for half in halves)).sum())

    assert overlap(log(drift=2.0)) < 0.75 * overlap(log(drift=0.0))


@pytest.mark.parametrize(("direction", "more"), [(1.0, True), (-1.0, False)])
def test_noisy_users_are_the_active_or_the_passive_ones(direction: float, more: bool) -> None:
    """With taste 20 a user who heeds it takes first what is of her two clusters."""
    frame = log(taste=20.0, links=0.0, noise=0.5, noise_by_activity=direction, clusters=6, popularity_tail=0.0)
    # Who takes items at random rates them alike; who heeds taste rates the first cluster far above the others.
    spread = frame.group_by("user_id").agg(pl.col("rating").mean(), pl.len())
    noisy = spread.filter(pl.col("rating") < 3.8)["len"].mean()
    heeding = spread.filter(pl.col("rating") >= 3.8)["len"].mean()
    assert (noisy > heeding) is more  # type: ignore[operator]


def test_a_log_of_too_few_items_is_refused() -> None:
    with pytest.raises(DasError, match="10 items"):
        generate_log(LogDesign(items=9))


def test_designs_cover_every_range_evenly() -> None:
    n = 16
    found = designs(n)
    assert len({design.seed for design in found}) == n
    for value, low, high in [
        (lambda d: np.log(d.users), np.log(400), np.log(1400)),
        (lambda d: d.activity_tail, 0.3, 1.1),
        (lambda d: d.popularity_tail, 0.2, 1.3),
        (lambda d: d.taste, 0.5, 3.5),
        (lambda d: d.links, 0.0, 4.5),
    ]:
        strata = sorted(int(np.clip((value(d) - low) / (high - low) * n, 0, n - 1)) for d in found)
        # Users are whole numbers, so that one may just miss its stratum.
        assert np.abs(np.array(strata) - np.arange(n)).max() <= 1
    assert all(design.users * design.mean_rows <= 36_001 for design in found)


def test_the_corpus_is_large_and_names_say_what_is_of_one_log() -> None:
    entries = corpus()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names) >= 36
    for entry in entries:
        assert family(entry.name, "f") == (entry.source or "f")
        assert entry.source is None or entry.source in SOURCES
    # Any first third has real and generated logs.
    first = entries[: len(entries) // 3]
    assert {entry.source is None for entry in first} == {True, False}
