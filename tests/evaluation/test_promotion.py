"""Which candidates go on: what noise, families and trends change of it."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.evaluation.promotion import (
    PRIOR_SHIFT,
    Standing,
    difference_interval,
    promote,
    ranking_shift,
)


def standings(family: str, qualities: list[float], noise: float = 0.0, before: list[float] | None = None) -> list:
    rng = np.random.default_rng(len(family))
    return [
        Standing(family, q, q + noise * rng.standard_normal(100), None if before is None else before[k])
        for k, q in enumerate(qualities)
    ]


def kept(found: list[str]) -> list[int]:
    return [k for k, reason in enumerate(found) if not reason]


def test_a_third_of_a_family_goes_on_and_more_where_noise_hides_the_order() -> None:
    clear = [0.1 - 0.01 * k for k in range(10)]
    assert kept(promote(standings("ease", clear), 0.0, 3.0)) == [0, 1, 2, 3]
    near = [0.1 - 1e-5 * k for k in range(20)]
    assert kept(promote(standings("ease", near), 0.0, 3.0)) == list(range(7))
    # Users, and the next rung, may turn this order round.
    assert kept(promote(standings("ease", near, noise=0.01), 0.0, 3.0)) == list(range(8))
    assert kept(promote(standings("ease", near), 0.05, 3.0)) == list(range(8))
    assert promote(standings("ease", clear), 0.0, 3.0)[9] == "rank 10 of 10 ease"
    assert promote([], 0.0, 1.0) == []


def test_of_a_single_candidate_it_goes_on() -> None:
    assert promote(standings("popularity", [0.0]), 0.05, 1.0) == [""]


def test_each_family_goes_on_until_it_is_behind_beyond_doubt() -> None:
    best, worst = [0.10, 0.09, 0.08], [0.02, 0.01, 0.01]
    # On the first rung nothing is known of how families gain.
    assert kept(promote(standings("ease", best) + standings("sasrec", worst), 0.0, 4.0)) == [0, 3]
    flat = standings("ease", best, before=best) + standings("sasrec", worst, before=worst)
    assert promote(flat, 0.0, 1.0)[3] == "sasrec is behind ease beyond doubt"
    # It gained .15 of the best on the last step, and may do so again.
    gaining = standings("ease", best, before=best) + standings("sasrec", worst, before=[0.005] * 3)
    assert kept(promote(gaining, 0.0, 6.0)) == [0, 3]
    assert kept(promote(gaining, 0.0, 1.0)) == [0]
    # An untrustworthy rung drops none.
    assert 3 in kept(promote(flat, 0.5, 1.0))


def test_few_finalists_and_only_those_that_may_be_the_best_of_all() -> None:
    near, far = [0.100, 0.099, 0.098, 0.097, 0.096], [0.095, 0.094, 0.093]
    both = standings("ease", near, before=near) + standings("sasrec", far, before=far)
    assert kept(promote(both, 0.03, 1.0)) == [0, 1, 5, 6]
    assert kept(promote(both, 0.03, 1.0, finalists=4)) == [0, 1]
    assert promote(both, 0.03, 1.0, finalists=4)[5] == "rank 3 of 4 of all models"
    assert kept(promote(both, 0.08, 1.0, finalists=4)) == [0, 1, 5, 6]
    assert kept(promote(both, 0.08, 1.0, finalists=3)) == [0, 1, 5]
    # A first rung is not trusted that far.
    first = standings("ease", near) + standings("sasrec", far)
    assert kept(promote(first, 0.03, 1.0, finalists=1)) == kept(promote(first, 0.03, 1.0))


def test_the_shift_is_that_of_relative_qualities_within_families() -> None:
    qualities = [0.1, 0.2, 0.3, 0.4, 0.5]
    doubled = standings("ease", [2 * q for q in qualities], before=qualities)
    assert ranking_shift(doubled) == pytest.approx(0.0, abs=1e-12)
    turned = standings("ease", qualities, before=qualities[::-1])
    assert ranking_shift(turned) > 0.5
    assert ranking_shift(standings("ease", qualities)) == PRIOR_SHIFT
    assert ranking_shift(turned[:2]) == PRIOR_SHIFT


def test_a_difference_is_of_the_same_users() -> None:
    rng = np.random.default_rng(0)
    users = rng.standard_normal(100)
    value, low, high = difference_interval(0.3, 0.2, 0.3 + users, 0.2 + users)
    assert (value, low, high) == pytest.approx((0.1, 0.1, 0.1))
    value, low, high = difference_interval(0.3, 0.2, 0.3 + users, 0.2 + rng.standard_normal(100))
    assert low < -1
    assert high > 1
