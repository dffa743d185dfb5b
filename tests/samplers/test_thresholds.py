"""Thresholds over many shards: exact, whatever the keys look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samplers_kit import find

from distill_at_scale.data import hashing
from distill_at_scale.samplers import thresholds
from distill_at_scale.samplers.scores import (
    LAST,
    Scores,
    Threshold,
    ascending_keys,
    descending_keys,
    fraction_keys,
    read_scores,
    weighted_keys,
)
from distill_at_scale.samplers.thresholds import Span


def slow_rows(units: list[tuple[int, int, int]], target: int) -> int:
    """Rows of the prefix that comes nearest to the target: groups in order, one after another."""
    best, total = 0, 0
    for group in sorted({(key, tie) for key, tie, _ in units}):
        total += sum(rows for key, tie, rows in units if (key, tie) == group)
        if abs(total - target) < abs(best - target) or (best == 0 and total == 2 * target):
            best = total
    return best


KEYS = st.one_of(st.integers(0, 3), st.integers(LAST - 3, LAST), st.integers(0, LAST), st.just(1 << 63))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.tuples(KEYS, KEYS, st.integers(0, 50)), max_size=12), min_size=1, max_size=4),
    st.floats(0.01, 1),
    st.booleans(),
    st.sampled_from([0, 3, 1 << 18]),
)
def test_threshold_is_that_of_a_sort(
    shards: list[list[tuple[int, int, int]]], budget: float, weighted: bool, few: int
) -> None:
    if not weighted:
        shards = [[(key, tie, 1) for key, tie, _ in shard] for shard in shards]
    units = [unit for shard in shards for unit in shard]
    total = sum(rows for *_, rows in units)
    target = thresholds.target_rows(budget, total)
    if target == 0:
        return
    scores = [
        Scores(
            np.array([key for key, _, _ in shard], dtype=np.uint64),
            np.array([tie for _, tie, _ in shard], dtype=np.uint64),
            np.array([rows for *_, rows in shard], dtype=np.int64) if weighted else None,
        )
        for shard in shards
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Also when nothing counts as few, down to a single (key, tie).
        patch.setattr(thresholds, "FEW", few)
        threshold = find(scores, target)
    expected = slow_rows(units, target)
    if threshold is None:
        assert expected == 0
        return
    assert threshold.rows == expected
    assert sum(int(s.keeps(threshold).sum()) for s in scores) == expected


def test_the_first_histogram_is_the_general_one() -> None:
    rng = np.random.default_rng(0)
    scores = Scores(rng.integers(0, LAST, 5000, dtype=np.uint64, endpoint=True), np.zeros(5000, dtype=np.uint64))
    whole, again = (thresholds.histogram(scores, span) for span in (Span(), Span(units=5000)))
    assert whole.counts.sum() == 2 * 5000
    assert np.array_equal(whole.counts, again.counts)
    assert (whole.fullest, whole.edges) == (again.fullest, again.edges)


@pytest.mark.parametrize("key", [0, 1 << 40, 77, LAST])
@pytest.mark.parametrize("neighbours", [False, True])
def test_units_that_are_all_the_same_are_told_at_once(key: int, neighbours: bool) -> None:
    """As the rows that stratified keeps first: one round finds the point, or two where other units lie near."""
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(3):
        keys = rng.integers(1 << 60, 1 << 62, 1000, dtype=np.uint64)
        keys[:600] = key
        if neighbours:
            keys[600:605] = key ^ 1
        shards.append(Scores(keys, np.where(np.arange(1000) < 600, np.uint64(9), keys)))
    target = int(sum((s.keys < np.uint64(key)).sum() for s in shards)) + 1500
    span, rounds = Span(), 0
    while not span.is_point:
        span = thresholds.narrow_span(span, [thresholds.histogram(s, span) for s in shards], target)
        rounds += 1
    assert rounds == 1 + neighbours
    assert (span.low, span.tie_low, span.units) == (key, 9, 1800)
    if neighbours and key ^ 1 < key:
        assert span.before == sum(int((s.keys < np.uint64(key)).sum()) for s in shards)


def test_of_two_as_near_the_smaller_is_taken_but_rather_some_than_none() -> None:
    scores = [Scores(np.array([1, 2], np.uint64), np.zeros(2, np.uint64), np.array([4, 4]))]
    assert find(scores, 6) == Threshold(1, 0, 4)
    assert find(scores, 7) == Threshold(2, 0, 8)
    assert find(scores, 2) == Threshold(1, 0, 4)
    assert find(scores, 1) is None


@pytest.mark.parametrize("encode", [ascending_keys, lambda v: ~descending_keys(v)])
def test_keys_keep_the_order_of_floats(encode: object) -> None:
    values = np.array([-np.inf, -3.5, -1e-300, 0.0, 5e-324, 1e-9, 1.0, 1.0 + 2**-52, 7e8, np.inf])
    keys = encode(values)  # type: ignore[operator]
    assert (keys[1:] > keys[:-1]).all()
    assert encode(np.array([-0.0])) == encode(np.array([0.0]))  # type: ignore[operator]


def test_fraction_keys_keep_the_order() -> None:
    values = np.sort(np.random.default_rng(1).random(1000))
    keys = fraction_keys(values)
    assert (keys[1:] > keys[:-1]).all()
    assert int(keys[-1]) <= LAST


def test_unit_interval_is_open() -> None:
    low, high = hashing.uniform_open(np.array([0, LAST], dtype=np.uint64))
    assert 0 < low < 1e-15
    assert 1 - 1e-15 < high < 1


def test_weighted_keys_draw_in_proportion() -> None:
    """The first drawn of four units, over many draws, and the first two against the exact probability."""
    weights, draws = np.array([1.0, 2.0, 3.0, 4.0]), 20_000
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, LAST, (draws, 4), dtype=np.uint64)
    order = np.argsort(weighted_keys(weights, hashes), axis=1)
    share = np.bincount(order[:, 0], minlength=4) / draws
    assert np.allclose(share, weights / 10, atol=0.015)
    pair = ((order[:, 0] == 3) & (order[:, 1] == 2)).mean()
    assert pair == pytest.approx(0.4 * 3 / 6, abs=0.015)


def test_scores_come_back_as_written(tmp_path: object) -> None:
    for rows in (None, np.array([3, 0, 2])):
        scores = Scores(np.array([1, 2, LAST], np.uint64), np.array([0, LAST, 5], np.uint64), rows)
        scores.write(f"{tmp_path}/s.arrow")
        found = read_scores(f"{tmp_path}/s.arrow")
        assert found.keys.tolist() == scores.keys.tolist()
        assert found.ties.tolist() == scores.ties.tolist()
        assert (found.rows is None) == (rows is None)
        threshold = Threshold(2, LAST - 1, 0)
        expected = [True, False, False] if rows is None else [True, True, True, False, False]
        assert found.keeps(threshold).tolist() == expected
