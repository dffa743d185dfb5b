"""Weights 1/p of samples: probabilities beside slow twins; weighted sums estimate those of the whole log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samplers_kit import cut, find, make_log, run_map_reduce

from distill_at_scale.errors import SettingError
from distill_at_scale.samplers import SAMPLERS, inclusion
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.scores import Scores, Threshold, ascending_keys
from distill_at_scale.samplers.train_rows import TrainRows

WEIGHTED = ("stratified", "density", "sensitivity", "sensitivity_users")
LOG = make_log(4, n_users=400, n_items=12, mean=4.0)
DRAWS = {"density": 60}


def test_samplers_with_weights() -> None:
    """Those that draw units with known, unequal probabilities, and no others."""
    assert {name for name, sampler in SAMPLERS.items() if sampler.inclusion} == set(WEIGHTED)


def test_the_probability_of_weighted_keys_is_the_share_of_draws_below_the_threshold() -> None:
    rng = np.random.default_rng(0)
    weights, t = np.array([0.01, 0.3, 1.0, 7.0]), 0.4
    below = [np.mean(-np.log(rng.random(200_000)) / w <= t) for w in weights]
    key = ascending_keys(np.array([t]))[0]
    np.testing.assert_allclose(inclusion.of_weighted_keys(weights, key), below, atol=0.004)


@pytest.mark.parametrize("t", [0.0, 0.07, 0.3, 0.99])
def test_the_probability_of_shares_is_the_mean_over_ranks_and_users_draws(t: float) -> None:
    """Row r of n is kept if it is the first or (r + u) / n ≤ t."""
    counts = np.array([1, 2, 5, 40])
    draws = (np.arange(2000) + 0.5) / 2000
    kept = [np.mean([(r == 0) | ((r + draws) / n <= t) for r in range(n)]) for n in counts]
    np.testing.assert_allclose(inclusion.of_shares(counts, np.uint64(int(t * 2.0**63))), kept, atol=0.001)


@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_counts_and_co_occurrences_are_unbiased(name: str) -> None:
    """Means over many draws beside the whole log, for items and for quarters of the rows by their probability: without
    weights they are off, with them they are not."""
    (rows,), _ = cut(LOG, 1)
    learned = what_is_learned(name, rows, 0)
    first: Scores = SAMPLERS[name].score(rows, 0, *learned)
    of_users = first.rows is not None
    assert first.parameters is not None
    parameters = np.repeat(first.parameters, rows.counts) if of_users else first.parameters
    quarter = np.searchsorted(np.quantile(parameters, [0.25, 0.5, 0.75]), parameters)
    features = np.concatenate([np.eye(4)[quarter], np.eye(LOG.n_items)[rows.items]], axis=1)
    per_user = np.zeros((rows.n_users, features.shape[1]))
    np.add.at(per_user, rows.owner, features)
    probabilities = SAMPLERS[name].inclusion
    assert probabilities is not None
    plain, weighted = [], []
    n = DRAWS.get(name, 150)
    for seed in range(n):
        if name == "density":
            # Its scores hash by the seed that its sketch was learned with.
            learned = what_is_learned(name, rows, seed)
        scores: Scores = SAMPLERS[name].score(rows, seed, *learned)
        threshold = find([scores], LOG.n_rows // 4)
        assert threshold is not None
        kept, weights = np.flatnonzero(scores.keeps(threshold)), inclusion.row_weights(probabilities, scores, threshold)
        for found, of_rows in ((weighted, weights), (plain, np.full(len(kept), len(rows) / len(kept)))):
            if of_users:
                of_user = np.zeros(rows.n_users)
                of_user[rows.owner[kept]] = of_rows
                found.append((per_user.T * of_user) @ per_user)
            else:
                found.append(of_rows @ features[kept])
    true = per_user.T @ per_user if of_users else features.sum(axis=0)
    # A factor common to all units: the threshold is the last unit's own key.
    factor = np.sum(weighted) / n / true.sum()
    assert abs(factor - 1) < 0.03
    assert np.abs((np.mean(weighted, axis=0) / factor - true) / standard_error(weighted)).max() < 4.5
    assert np.abs((np.mean(plain, axis=0) - true) / standard_error(plain)).max() > 8


def what_is_learned(name: str, rows: TrainRows, seed: int) -> tuple[Arrays, ...]:
    make = SAMPLERS[name].map_reduce
    if make is None:
        return ()
    owns, shared = run_map_reduce(make(Task(LOG.n_items, LOG.n_rows, LOG.n_rows, seed)), [rows])
    return owns[0], shared


def standard_error(draws: list[np.ndarray]) -> np.ndarray:
    """Of the mean; 1 where all draws are equal."""
    spread = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    return np.where(spread > 1e-9, spread, 1.0)


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_do_not_depend_on_shards(name: str) -> None:
    found = []
    for n_shards in (1, 5):
        shards, ids = cut(LOG, n_shards)
        owns: list[Arrays] = [{} for _ in shards]
        learned: list[tuple[Arrays, ...]] = [() for _ in shards]
        if make := SAMPLERS[name].map_reduce:
            owns, shared = run_map_reduce(make(Task(LOG.n_items, LOG.n_rows, LOG.n_rows, 1)), shards)
            learned = [(own, shared) for own in owns]
        scores = [SAMPLERS[name].score(rows, 1, *arrays) for rows, arrays in zip(shards, learned)]
        threshold, probabilities = find(scores, LOG.n_rows // 3), SAMPLERS[name].inclusion
        assert threshold is not None
        assert probabilities is not None
        weights = {}
        for score, rows, users in zip(scores, shards, ids):
            kept = np.flatnonzero(score.keeps(threshold))
            values = inclusion.row_weights(probabilities, score, threshold)
            weights |= {(users[rows.owner[k]], rows.items[k]): value for k, value in zip(kept, values)}
        assert min(weights.values()) >= 1
        found.append(weights)
    assert found[0] == found[1]


def test_wrong_probabilities_of_a_sampler_of_ones_own_are_refused() -> None:
    scores, threshold = Scores(np.arange(3, dtype=np.uint64), np.zeros(3, np.uint64)), Threshold(1, 0, 2)
    with pytest.raises(SettingError, match="must return Scores with parameters"):
        inclusion.row_weights(inclusion.of_shares, scores, threshold)
    scores = replace(scores, parameters=np.ones(3, np.float32))
    for wrong in (0.0, 1.5, np.nan):
        with pytest.raises(SettingError, match=rf"the probability {wrong}, not in \(0, 1\]"):
            inclusion.row_weights(lambda of, key, p=wrong: np.full(len(of), p), scores, threshold)
