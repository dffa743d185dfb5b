"""Scores of rows whose values are not known: features against a slow twin, and what a rater learns."""

from __future__ import annotations

import numpy as np
import pytest
from distill_kit import interactions

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution import rater
from distill_at_scale.distillation.attribution.rater import fit_rater, generalisation, rank_correlation
from distill_at_scale.distillation.attribution.row_features import ItemFacts, item_vectors, row_features
from distill_at_scale.distillation.attribution.values import RowValues
from distill_at_scale.errors import DasError

N_ITEMS = 12


def log(n_users: int, seed: int = 0, length: int = 9) -> tuple[Interactions, Interactions]:
    """Rows with ratings and times; some users have no train rows, some no validation rows."""
    rng = np.random.default_rng(seed)
    sides = []
    for least, most in ((0, length), (0, 3)):
        rows = [rng.permutation(N_ITEMS)[: rng.integers(least, most + 1)] for _ in range(n_users)]
        plain = interactions(rows, N_ITEMS)
        ratings = rng.integers(1, 6, plain.n_rows).astype(np.float32)
        times = np.concatenate([np.sort(rng.integers(10**12, 10**12 + 10**9, len(some))) for some in rows])
        sides.append(Interactions(plain.users, plain.offsets, plain.items, N_ITEMS, ratings, times.astype(np.int64)))
    return sides[0], sides[1]


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norm if norm > 1e-9 else 0.0


def features_by_hand(train: Interactions, heldout: Interactions, facts: ItemFacts) -> dict[str, list[float]]:
    """Row by row, with plain numbers: the slow twin."""
    assert train.ratings is not None
    assert train.timestamps is not None
    found: dict[str, list[float]] = {}
    popularity = [float(np.log(1 + count)) for count in facts.train]
    share = facts.validation.sum() / facts.train.sum()
    for user in range(len(train)):
        mine = slice(*train.offsets[user : user + 2])
        wanted = heldout.items[slice(*heldout.offsets[user : user + 2])]
        items, ratings = list(train.items[mine]), list(map(float, train.ratings[mine]))
        seconds = [float(t) / 1000 for t in train.timestamps[mine]]
        vectors, n = facts.vectors.astype(float), len(items)
        for k, item in enumerate(items):
            mean = float(np.mean([popularity[i] for i in items]))
            row = {
                "item_rows": popularity[item],
                "item_trend": np.log((facts.validation[item] + 1) / (facts.train[item] * share + 1)),
                "user_rows": np.log(1 + n),
                "place": k / (n - 1) if n > 1 else 0.0,
                "rows_after": np.log(n - k),
                "validation_rows": np.log(1 + len(wanted)),
                "user_popularity": mean,
                "popularity_before": popularity[items[k - 1]] if k else mean,
                "popularity_after": popularity[items[k + 1]] if k + 1 < n else mean,
                "like_others": cosine(
                    vectors[item], sum(vectors[i] for j, i in enumerate(items) if j != k) + np.zeros(1)
                ),
                "like_validation": cosine(vectors[item], vectors[wanted].sum(axis=0)),
                "like_before": cosine(vectors[item], vectors[items[k - 1]]) if k else 0.0,
                "like_after": cosine(vectors[item], vectors[items[k + 1]]) if k + 1 < n else 0.0,
                "user_rating": float(np.mean(ratings)),
                "rating": ratings[k] - float(np.mean(ratings)),
                "time_before": np.log(1 + seconds[k] - seconds[k - 1]) if k else 0.0,
                "time_after": np.log(1 + seconds[k + 1] - seconds[k]) if k + 1 < n else 0.0,
                "age": np.log(1 + seconds[-1] - seconds[k]),
                "time": (seconds[k] - facts.first / 1000) / ((facts.last - facts.first) / 1000),
            }
            for name, value in row.items():
                found.setdefault(name, []).append(float(value))
    return found


def test_features_against_a_slow_twin() -> None:
    train, heldout = log(30)
    assert (train.counts == 0).any()
    assert (heldout.counts == 0).any()
    facts = ItemFacts.of(train, heldout, dim=3)
    found, expected = row_features(train, heldout, facts), features_by_hand(train, heldout, facts)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_rows_are_described_without_other_shards() -> None:
    """Also where the log has neither ratings nor times, and where no user of a shard has rows."""
    train, heldout = log(30)
    facts = ItemFacts.of(train, heldout)
    whole = row_features(train, heldout, facts)
    part = row_features(train.slice(10, 30), heldout.slice(10, 30), facts)
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][train.offsets[10] :], atol=1e-12, err_msg=name)
    plain = Interactions(train.users, train.offsets, train.items, N_ITEMS)
    assert set(whole) - set(row_features(plain, heldout, ItemFacts.of(plain, heldout))) == {
        "user_rating",
        "rating",
        "time_before",
        "time_after",
        "age",
        "time",
    }
    empty = train.take(np.flatnonzero(train.counts == 0))
    assert all(not len(values) for values in row_features(empty, heldout.slice(0, len(empty)), facts).values())


def test_vectors_are_those_of_a_dense_decomposition() -> None:
    train, _ = log(30)
    matrix = train.to_csr().toarray().astype(float)
    users, items = matrix.sum(1, keepdims=True), matrix.sum(0, keepdims=True)
    _, values, right = np.linalg.svd(matrix / np.sqrt(np.maximum(users, 1) * np.maximum(items, 1)))
    expected = right[:4].T * values[:4]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = item_vectors(train, 4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    assert not item_vectors(train.slice(0, 1), 4).any()


def valued(train: Interactions, of_rows: np.ndarray) -> RowValues:
    """Values in the order of user and item, as attributions give them."""
    users = np.repeat(train.users, train.counts)
    order = np.lexsort((train.items, users))
    return RowValues(users[order], train.items[order].astype(np.int64), of_rows[order], 0.0)


def test_a_rater_learns_what_features_tell_and_nothing_from_noise() -> None:
    train, heldout = log(400)
    rng = np.random.default_rng(1)
    of_item = rng.normal(size=N_ITEMS)[train.items]
    features = row_features(train, heldout, ItemFacts.of(train, heldout))
    truth = of_item + features["place"] * features["rating"]
    noisy = valued(train, 1e-6 * (truth + 0.5 * rng.normal(size=len(truth))))
    assert generalisation(noisy, train, heldout) > 0.8
    assert abs(generalisation(valued(train, rng.normal(size=len(truth))), train, heldout)) < 0.12
    # One value that is a million times the others does not decide the scores.
    wild = noisy.values.copy()
    wild[5] = 1.0
    found = fit_rater(RowValues(noisy.users, noisy.items, wild, 0.0), train, heldout).scores(train, heldout)
    assert rank_correlation(found, truth) > 0.85


def test_the_fit_is_ridge_regression_with_the_best_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a solver of least squares on all rows at once, fold by fold."""
    monkeypatch.setattr(rater, "_BLOCK_ROWS", 7)
    rng = np.random.default_rng(2)
    x, y, fold = rng.uniform(-1, 1, (60, 3)), rng.normal(size=60), rng.integers(0, 5, 60)
    wide = rater._expanded(x)
    assert wide.shape == (60, 1 + 3 + 6)

    def solved(rows: np.ndarray, penalty: float) -> np.ndarray:
        extra = np.sqrt(penalty) * np.eye(wide.shape[1])
        extra[0, 0] = 0
        left, right = np.concatenate((wide[rows], extra)), np.append(y[rows], np.zeros(len(extra)))
        return np.linalg.lstsq(left, right)[0]

    def error(penalty: float) -> float:
        kept = [(fold != k, fold == k) for k in range(5)]
        return sum(float(np.square(wide[own] @ solved(rest, penalty * 48) - y[own]).sum()) for rest, own in kept)

    grams, rights, squares = rater._normal_equations(x, y, fold)
    best = min(rater._PENALTIES, key=error)
    assert rater._penalty(grams, rights, squares, 60) == best
    found = rater._solve(grams.sum(0), rights.sum(0), best * 60)
    np.testing.assert_allclose(found, solved(np.ones(60, dtype=bool), best * 60), rtol=1e-5, atol=1e-7)


def test_too_few_users_are_refused() -> None:
    train, heldout = log(9)
    with pytest.raises(DasError, match="a rater needs 10, so omit --users"):
        generalisation(valued(train, np.ones(train.n_rows)), train, heldout)
