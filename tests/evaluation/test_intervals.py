"""Intervals over users and seeds hold nine of ten: a simulation draws users and seeds anew, many times."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.evaluation.bootstrap import resample_weights
from distill_at_scale.evaluation.intervals import Spread, spread

USERS, ROUNDS = 60, 1500
KEPT = 0.9


@pytest.fixture(scope="module")
def weights() -> list[np.ndarray]:
    """float64 [users, resamples], how often each user is drawn, of some bootstraps."""
    return [resample_weights(np.arange(USERS), 100, seed).astype(np.float64) for seed in range(30)]


def drawn(
    rng: np.random.Generator, weights: np.ndarray, seeds: int, seed_sd: float, user_sd: float
) -> tuple[Spread, float]:
    """What ``seeds`` small datasets keep of users drawn anew, and what one more keeps of all users there are."""
    full = 0.2 + 0.05 * rng.standard_normal(USERS)
    # A user whom small data serve well or badly, whatever the seed; and one whom this seed does.
    always = user_sd * 0.2 * rng.standard_normal(USERS)
    of_seed = KEPT + seed_sd * rng.standard_normal(seeds + 1)
    small = of_seed[:-1, None] * full + always + 0.01 * rng.standard_normal((seeds, USERS))
    found = spread((small.mean(1) / full.mean()).tolist(), (small @ weights) / (full @ weights))
    assert found is not None
    return found, float(of_seed[-1])


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("seed_sd", "user_sd"), [(0.05, 0.0), (0.05, 0.2), (0.01, 0.3)], ids=["seeds", "both", "users"]
)
def test_nine_of_ten_intervals_hold(weights: list[np.ndarray], seeds: int, seed_sd: float, user_sd: float) -> None:
    rng = np.random.default_rng([seeds, round(1000 * seed_sd), round(1000 * user_sd)])
    of_mean, of_new, over_users_only = 0, 0, 0
    for k in range(ROUNDS):
        found, new = drawn(rng, weights[k % len(weights)], seeds, seed_sd, user_sd)
        of_mean += found.of_mean[0] <= KEPT <= found.of_mean[1]
        assert found.of_new is not None
        of_new += found.of_new[0] <= new <= found.of_new[1]
        over_users_only += abs(found.mean - KEPT) <= 1.645 * found.users**0.5
    assert 0.87 <= of_mean / ROUNDS <= 0.93
    assert 0.87 <= of_new / ROUNDS <= 0.93
    if not user_sd:
        assert over_users_only / ROUNDS < 0.5


def test_without_a_difference_between_seeds_the_users_are_all() -> None:
    resampled = np.tile(0.9 + 0.01 * np.random.default_rng(0).standard_normal(100), (3, 1))
    found = spread([0.9, 0.9, 0.9], resampled)
    assert found is not None
    assert (found.seeds, found.users) == (0.0, pytest.approx(resampled[0].var(ddof=1)))
    # Student's t of 99 degrees of freedom, not of 2.
    assert found.of_mean[1] - 0.9 == pytest.approx(1.6604 * resampled[0].std(ddof=1), rel=1e-3)


def test_one_seed_says_nothing_of_a_new_sample() -> None:
    found = spread([0.9], 0.9 + 0.01 * np.random.default_rng(0).standard_normal((1, 100)))
    assert found is not None
    assert found.seeds is None
    assert found.of_new is None
    assert found.of_mean[0] < 0.9 < found.of_mean[1]


def test_what_cannot_be_told_is_none() -> None:
    assert spread([0.9], np.full((1, 100), np.nan)) is None
    assert spread([float("nan"), 0.9], np.ones((2, 100))) is None
    assert spread([0.9, 0.9], np.ones((2, 0))) is None
