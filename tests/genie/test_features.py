"""Features of a dataset: each against its definition, and the same however the log was cut."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.genie import features as module
from distill_at_scale.genie.features import ShardFeatures, feature_vector

N_ITEMS = 50


def make_rows(seed: int = 0, n_users: int = 90, times: bool = True, ratings: bool = True) -> Interactions:
    rng = np.random.default_rng(seed)
    counts = np.minimum(rng.poisson(rng.pareto(1.5, n_users) * 4), 30)
    items = [np.sort(rng.choice(N_ITEMS, n, replace=False, p=_chances())) for n in counts]
    n = int(counts.sum())
    return Interactions(
        users=np.arange(n_users, dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        n_items=N_ITEMS,
        ratings=rng.integers(1, 6, n).astype(np.float32) if ratings else None,
        timestamps=rng.integers(0, 1000, n).astype(np.int64) if times else None,
    )


def _chances() -> np.ndarray:
    chances = 1 / (1 + np.arange(N_ITEMS))
    return chances / chances.sum()


def measure(rows: Interactions, cuts: list[int], order: list[int] | None = None) -> dict[str, float]:
    """Features of the rows when they lie in shards that begin at ``cuts``, merged in some order."""
    hashes = hashing.mix(rows.users.astype(np.uint64))
    bounds = [*cuts, len(rows)]
    parts = [ShardFeatures.of(rows.slice(a, b), hashes[a:b], len(rows)) for a, b in pairwise(bounds)]
    total = ShardFeatures()
    for k in order or range(len(parts)):
        total = total.merge(parts[k])
    return total.result(rows.item_counts())


def test_features_do_not_depend_on_shards_nor_on_the_order_of_merging() -> None:
    rows = make_rows()
    one = measure(rows, [0])
    for other in (measure(rows, [0, 10, 11, 60]), measure(rows, [0, 30, 60], [2, 0, 1])):
        assert other == pytest.approx(one, rel=1e-12)


def test_features_of_a_sample_of_users_do_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_USERS", 25)
    rows = make_rows(3)
    assert measure(rows, [0, 20, 50], [1, 2, 0]) == pytest.approx(measure(rows, [0]), rel=1e-12)


def test_the_sample_has_about_as_many_users_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_USERS", 400)
    n = 4000
    rows = Interactions(np.arange(n), np.arange(n + 1), np.zeros(n, np.int32), 1)
    found = ShardFeatures.of(rows, hashing.mix(np.arange(n).astype(np.uint64)), n)
    # Five standard deviations of a binomial.
    assert len(found.hashes[0]) == pytest.approx(400, abs=5 * 400**0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_and_distributions_follow_their_definitions(seed: int) -> None:
    rows = make_rows(seed)
    found = measure(rows, [0, 40])
    users = sorted(int(n) for n in rows.counts if n)
    items = sorted(Counter(rows.items.tolist()).values())
    n = rows.n_rows
    assert found["log_users"] == pytest.approx(np.log(len(users)))
    assert found["log_items"] == pytest.approx(np.log(len(items)))
    assert found["log_rows"] == pytest.approx(np.log(n))
    assert found["log_density"] == pytest.approx(np.log(n / len(users) / len(items)))
    for name, degrees in (("user", users), ("item", items)):
        m = len(degrees)
        assert found[f"log_{name}_mean"] == pytest.approx(np.log(n / m))
        for k in range(10):
            at = degrees[round(k / 9 * (m - 1))]
            assert found[f"{name}_order_{k}"] == pytest.approx(np.log(at / statistics.fmean(degrees)))
        gini = sum(abs(a - b) for a in degrees for b in degrees) / (2 * m * m * statistics.fmean(degrees))
        assert found[f"{name}_gini"] == pytest.approx(gini)
        assert found[f"{name}_head_0.1"] == pytest.approx(sum(degrees[-round(0.1 * m) :]) / n)
        assert found[f"{name}_head_0.01"] == pytest.approx(sum(degrees[-max(1, round(0.01 * m)) :]) / n)
    stars = rows.ratings
    assert stars is not None
    assert found["has_ratings"] == 1
    assert found["rating_spread"] == pytest.approx(float(stars.std() / stars.mean()), rel=1e-5)


def test_what_a_log_lacks_is_said() -> None:
    found = measure(make_rows(times=False, ratings=False), [0])
    assert (found["has_ratings"], found["rating_spread"]) == (0, 0)
    assert (found["has_times"], found["drift"]) == (0, 0)
    assert set(found) == set(measure(make_rows(), [0]))


def drifting(moves: bool) -> Interactions:
    """Users with 4 rows; all items change by and by, or none does."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 1000, (200, 4)), axis=1)
    items = (times // 20 if moves else rng.integers(0, N_ITEMS, times.shape)).astype(np.int32)
    return Interactions(
        np.arange(200), np.arange(0, 801, 4), items.ravel(), N_ITEMS, timestamps=times.ravel().astype(np.int64)
    )


def test_drift_is_one_where_everything_changes_and_none_where_nothing_does() -> None:
    assert measure(drifting(True), [0])["drift"] > 0.95
    assert abs(measure(drifting(False), [0])["drift"]) < 0.1


def test_no_rows_no_features() -> None:
    with pytest.raises(DasError, match="no features"):
        ShardFeatures().result(np.zeros(3, dtype=np.int64))


def test_a_missing_feature_is_named() -> None:
    assert feature_vector({"b": 2.0, "a": 1.0}, ["a", "b"]).tolist() == [1, 2]
    with pytest.raises(DasError, match="'c'"):
        feature_vector({"a": 1.0}, ["a", "c"])
