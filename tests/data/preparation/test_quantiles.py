"""Exact quantiles by narrowing histograms: the value of any rank is that of the sorted values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_at_scale.data.preparation.quantiles import BINS, histogram, narrow

TOP = (1 << 63) - 1


def value_of_rank(parts: list[np.ndarray], rank: int, low: int = 0, high: int = TOP) -> int:
    rounds = 0
    while low < high:
        counts = np.sum([histogram(part, low, high) for part in parts], axis=0)
        low, high, rank = narrow(counts, low, high, rank)
        rounds += 1
    assert rounds <= 4
    return low


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, TOP)), min_size=1, max_size=40), st.data())
def test_any_rank(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    parts = [np.array(part, dtype=np.int64) for part in (values[:cut], values[cut:])]
    rank = data.draw(st.integers(0, len(values) - 1))
    assert value_of_rank(parts, rank) == sorted(values)[rank]


@pytest.mark.parametrize("rank", [0, 1, 49_999, 50_000, 99_998, 99_999])
def test_many_values(rank: int) -> None:
    values = np.random.default_rng(0).integers(1_500_000_000_000, 1_700_000_000_000, 100_000)
    assert value_of_rank([values[:10], values[10:]], rank) == np.sort(values)[rank]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 9), (0, BINS - 1), (0, BINS), (3, 3 + 7 * BINS), (0, TOP)])
def test_histogram_is_a_count(low: int, high: int) -> None:
    width = max(1, -(-(high - low + 1) // BINS))
    values = np.array([low, high, (low + high) // 2, min(high, low + width), high], dtype=np.int64)
    counts = histogram(np.concatenate([values, [-1, *([high + 1] if high < TOP else [])]]), low, high)
    assert counts.shape == (BINS,)
    expected = np.zeros(BINS, dtype=np.int64)
    for value in values.tolist():
        expected[(value - low) // width] += 1
    assert (counts == expected).all()
