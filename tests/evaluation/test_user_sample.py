"""A sample of users is the same however they are spread, and its interval covers the average over all users."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from distill_at_scale.evaluation.user_sample import UserSample, interval


@pytest.mark.parametrize("ids", [np.arange(5000), [f"user {k}" for k in range(5000)]], ids=["numbers", "strings"])
def test_the_same_users_whatever_the_number_of_shards(ids: object) -> None:
    people, sample = pl.Series(ids), UserSample(0.1, seed=3)
    whole = set(people.gather(sample.positions(people)))
    assert 400 < len(whole) < 600
    order = np.random.default_rng(0).permutation(5000)
    for n_shards in (2, 7):
        shards = [people.gather(some) for some in np.array_split(order, n_shards)]
        assert {user for shard in shards for user in shard.gather(sample.positions(shard))} == whole
    assert set(people.gather(UserSample(0.1, seed=4).positions(people))) != whole


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_the_interval_covers_the_average_over_all_users(share: float) -> None:
    """Of 95 % intervals from 400 samples of the same users some 380 hold the average over all; without the correction
    for the share it would be 99.8 % at a share of 0.6."""
    rng = np.random.default_rng(1)
    people = pl.Series(np.arange(4000))
    values = rng.random(4000) * (rng.random(4000) < 0.4)  # many users at 0, as for ndcg
    truth, covered, n_samples = values.mean(), 0, 400
    for seed in range(n_samples):
        some = values[UserSample(share, seed).positions(people)]
        low, high = interval(some.mean(), some.std(ddof=1) / len(some) ** 0.5, len(some) / 4000)
        covered += low <= truth <= high
    assert 0.91 < covered / n_samples < 0.985


def test_an_interval_of_all_users_is_a_point() -> None:
    assert interval(0.3, 0.01, 1.0) == (0.3, 0.3)
