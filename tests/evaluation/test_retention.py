"""Retention against its definition."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_at_scale.evaluation.retention import kendall_tau, retention

SCORES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8)


def slow_tau_b(first: list[int], second: list[int]) -> float | None:
    """(concordant − discordant) / sqrt((pairs − ties in first)(pairs − ties in second))"""
    agree = ties_first = ties_second = 0
    pairs = list(itertools.combinations(range(len(first)), 2))
    for i, j in pairs:
        a, b = first[i] - first[j], second[i] - second[j]
        agree += (a * b > 0) - (a * b < 0)
        ties_first += a == 0
        ties_second += b == 0
    below = math.sqrt((len(pairs) - ties_first) * (len(pairs) - ties_second))
    return agree / below if below else None


@given(SCORES)
def test_kendall_tau_is_tau_b(scores: list[tuple[int, int]]) -> None:
    first, second = [a for a, _ in scores], [b for _, b in scores]
    expected, found = slow_tau_b(first, second), kendall_tau(first, second)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected, abs=1e-12)


def test_retention_averages_over_metrics() -> None:
    full = {"a": {"x": 0.4, "y": 1.0}, "b": {"x": 0.2, "y": 2.0}, "c": {"x": 0.1, "y": 4.0}}
    small = {"a": {"x": 0.3, "y": 4.0}, "b": {"x": 0.1, "y": 2.0}, "c": {"x": 0.05, "y": 1.0}}
    found = retention(full, small, ["x", "y"])
    assert found.tau_by_metric == {"x": 1.0, "y": -1.0}
    assert found.tau == 0.0
    assert found.kept["a"] == {"x": pytest.approx(0.75), "y": 4.0}
    assert found.mean_kept("x") == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    equal = {model: {"x": 1.0} for model in full}
    assert retention(equal, equal, ["x"]).tau is None
