"""Resampled users: the weights' distribution, and averages against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill_at_scale.evaluation.bootstrap import UserBootstrap, resample_weights

USERS = np.arange(40_000, dtype=np.int64)


def test_weights_are_poisson_and_belong_to_the_user() -> None:
    weights = resample_weights(USERS, 5, seed=3)
    for count in range(5):
        # Four standard errors of a share of 200,000 draws.
        expected = math.exp(-1) / math.factorial(count)
        assert (weights == count).mean() == pytest.approx(expected, abs=4 * math.sqrt(expected / weights.size))
    assert np.corrcoef(weights.T)[~np.eye(5, dtype=bool)] == pytest.approx(0, abs=0.03)
    some = np.array([17, 3, 39_999])
    assert (resample_weights(some, 5, seed=3) == weights[some]).all()
    assert (resample_weights(some, 5, seed=4) != weights[some]).any()


def test_means_are_those_of_the_users_repeated() -> None:
    rng = np.random.default_rng(0)
    users, values = rng.permutation(300).astype(np.int64), rng.random(300)
    found = UserBootstrap(seed=1, n_resamples=7)
    found.add(users[:100], {"ndcg@10": values[:100]})
    other = UserBootstrap(seed=1, n_resamples=7)
    other.add(users[100:], {"ndcg@10": values[100:]})
    found.merge(other)
    weights = resample_weights(users, 7, seed=1)
    slow = [np.repeat(values, weights[:, k]).mean() for k in range(7)]
    assert found.means()["ndcg@10"] == pytest.approx(slow, rel=1e-12)
    assert found.rounded_means()["ndcg@10"] == pytest.approx(slow, rel=1e-5)


def test_the_spread_is_the_standard_error() -> None:
    values = np.random.default_rng(1).exponential(size=len(USERS))
    found = UserBootstrap(n_resamples=400)
    found.add(USERS, {"x": values})
    expected = values.std(ddof=1) / math.sqrt(len(USERS))
    assert found.means()["x"].std(ddof=1) == pytest.approx(expected, rel=0.15)
