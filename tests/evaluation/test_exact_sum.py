"""Sums that do not depend on order and grouping, beside exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from distill_at_scale.evaluation.exact_sum import ExactSum


def summed(values: np.ndarray, groups: int) -> ExactSum:
    """The sum of some numbers or rows, ``groups`` of which are summed by themselves first."""
    total = ExactSum()
    for group in np.array_split(values, groups):
        part = ExactSum()
        for value in group:
            part.add(value)
        total.merge(part)
    return total


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e9])
def test_order_and_grouping_change_no_bit(scale: float) -> None:
    rng = np.random.default_rng(5)
    values = rng.exponential(scale, 3000) * rng.choice([1, -0.5, 1e-6], 3000)
    orders = [values, values[::-1], rng.permutation(values)]
    assert len({float(np.cumsum(order)[-1]) for order in orders}) > 1  # what a plain sum would give
    found = {float(summed(order, groups)) for order in orders for groups in (1, 7, 1000)}
    assert len(found) == 1
    exact = float(sum(map(Fraction, values.tolist())))
    assert found.pop() == pytest.approx(exact, rel=1e-15, abs=3000 * 2.0**-53)


def test_arrays_are_summed_elementwise() -> None:
    rows = np.random.default_rng(6).random((500, 3))
    whole, parts = summed(rows, 1), summed(rows[::-1], 11)
    assert np.array_equal(whole.value(), parts.value())
    assert whole.value() == pytest.approx(rows.sum(0), rel=1e-14)
    assert float(ExactSum()) == 0.0


def test_a_merged_sum_stays_as_it_is() -> None:
    one, other = ExactSum(), ExactSum()
    other.add(np.ones(2))
    one.merge(other)
    one.add(np.ones(2))
    assert other.value().tolist() == [1, 1]
