"""A sample of users is the same however they are spread, and its interval covers the average over all users."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.user_sample import UserSample, interval, rows_of_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


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
        low, high = interval(some.mean(), some.std(ddof=1) / len(some) ** 0.5, len(some) / 4000, len(some))
        covered += low <= truth <= high
    assert 0.91 < covered / n_samples < 0.985


def test_an_interval_of_all_users_is_a_point() -> None:
    assert interval(0.3, 0.01, 1.0, 10) == (0.3, 0.3)


def test_intervals_of_few_users_stay_between_0_and_1_and_are_no_points() -> None:
    """Of ten users, none, one, all or the same half of each: mean ± 1.96 errors is a point, or leaves [0, 1]."""
    for values in (np.zeros(10), np.eye(10)[0], 1 - np.eye(10)[0], np.ones(10), np.full(10, 0.5)):
        error = values.std(ddof=1) / 10**0.5
        low, high = interval(values.mean(), error, 0.1, 10)
        assert 0 <= low <= values.mean() <= high <= 1
        assert high - low > 0.15
        # Wilson's interval solves (mean - p)² = z² p (1 - p) / n, with the n that has this standard error.
        variance = error**2 * 0.9 if error else values.mean() * (1 - values.mean()) / 10 * 0.9
        at_zero = error == 0 and values.mean() in (0, 1)
        n = 10 / 0.9 if at_zero else values.mean() * (1 - values.mean()) / variance
        for p in {low, high} - {0.0, 1.0}:
            assert (values.mean() - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / n)


def test_few_users_with_rare_hits_are_covered() -> None:
    """20 of 2,000 users, of whom 5 % have a hit: mean ± 1.96 errors holds the truth in some 59 of 100 samples."""
    rng = np.random.default_rng(4)
    values = (rng.random(2000) < 0.05).astype(float)
    held = 0
    for _ in range(500):
        some = values[rng.choice(2000, 20, replace=False)]
        low, high = interval(some.mean(), some.std(ddof=1) / 20**0.5, 0.01, 20)
        held += low <= values.mean() <= high
    assert held / 500 > 0.9


def test_rows_of_a_sample_are_those_of_its_users_whatever_was_asked_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shards = [
        [
            (user, int(item), 1.0, k, k % 3)
            for user in range(first, first + 30)
            for k, item in enumerate(rng.permutation(9))
        ]
        for first in (0, 30)
    ]
    dataset = write_dataset(tmp_path, shards, [30, 30], 9)
    asked = [(split, seed, shard) for split in ("validation", "test") for seed in (0, 1) for shard in (0, 1, 0)]
    for split, seed, shard in asked:
        sample = UserSample(0.4, seed)
        histories, heldout, train = rows_of_sample(dataset, split, shard, sample)
        chosen = sample.positions(dataset.users(shard)["user_id"])
        for found, splits in ((histories, ["train", "validation"][: 1 + (split == "test")]), (heldout, [split])):
            same_rows(found, dataset.interactions(*splits, shards=[shard]).take(chosen))
        same_rows(train, dataset.interactions("train", shards=[shard]).take(chosen))


def same_rows(found: Interactions, expected: Interactions) -> None:
    for name in ("users", "offsets", "items"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
