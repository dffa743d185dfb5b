"""Fractal expansion: keep rates equal a dense twin's, blocks are copies, and the log keeps its shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from distill_at_scale.data import expansion, hashing
from distill_at_scale.data.interactions import Interactions


def long_tailed(seed: int = 0, n_users: int = 300, n_items: int = 120) -> sp.csr_array:
    """A binary log in which activity and popularity have tails, and two groups of users prefer an own half of the
    items."""
    rng = np.random.default_rng(seed)
    activity, popularity = rng.pareto(1.5, n_users) + 0.3, rng.pareto(1.2, n_items) + 0.2
    taste = np.where(np.arange(n_users)[:, None] % 2 == np.arange(n_items) % 2, 1.0, 0.15)
    odds = activity[:, None] * popularity * taste
    dense = rng.random(odds.shape) < np.minimum(0.9, 0.1 * odds / odds.mean())
    dense[:, 0] |= ~dense.any(axis=1)
    return sp.csr_array(dense.astype(np.float32))


def whole(
    rows: Interactions, rates: np.ndarray, seed: int, pieces: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(user, item, source) of the expansion, made in some pieces."""
    bounds = np.linspace(0, len(rows), pieces + 1).astype(int)
    found = [
        copy
        for block in range(len(rates))
        for part in zip(bounds.tolist(), bounds[1:].tolist())
        for copy in expansion.expand(rows, part, block, rates[block], len(rows), seed)
    ]
    return tuple(np.concatenate([getattr(copy, name) for copy in found]) for name in ("users", "items", "sources"))  # type: ignore[return-value]


def gini(counts: np.ndarray) -> float:
    ordered, n = np.sort(counts).astype(float), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def dense_rates(matrix: np.ndarray, by: tuple[int, int], rank: int) -> np.ndarray:
    """From the definition: a full SVD, means group by group, Gram-Schmidt by the order of singular values."""
    matrix = matrix[np.argsort(-matrix.sum(1), kind="stable")][:, np.argsort(-matrix.sum(0), kind="stable")]
    left, values, right = np.linalg.svd(matrix - matrix.mean())

    def small(factor: np.ndarray, n: int) -> np.ndarray:
        edges = np.linspace(0, len(factor), n + 1).round().astype(int)
        columns: list[np.ndarray] = []
        for k in range(rank):
            column = np.array([factor[a:b, k].mean() for a, b in itertools.pairwise(edges)])
            for other in columns:
                column = column - other * (other @ column)
            length = np.linalg.norm(column)
            columns.append(column / length if k < n else 0 * column)
        return np.array(columns).T

    copy = small(left, by[0]) @ np.diag(values[:rank]) @ small(right.T, by[1]).T
    return 0.02 + 0.98 * (copy - copy.min()) / (copy.max() - copy.min())


@pytest.mark.parametrize("by", [(4, 6), (12, 3), (16, 20), (1, 5)])
def test_keep_rates_are_a_dense_twins(by: tuple[int, int]) -> None:
    matrix = long_tailed()
    rates = expansion.keep_rates(matrix, by, seed=3)
    np.testing.assert_allclose(rates, dense_rates(matrix.toarray().astype(float), by, 10), atol=1e-8)
    assert (rates.min(), rates.max()) == (pytest.approx(0.02), pytest.approx(1.0))


def test_without_structure_everything_is_kept() -> None:
    full = sp.csr_array(np.ones((8, 5), np.float32))
    for matrix, by in [(full, (2, 2)), (sp.csr_array(np.ones((1, 5), np.float32)), (1, 2)), (long_tailed(), (1, 1))]:
        np.testing.assert_array_equal(expansion.keep_rates(matrix, by, 0), np.ones(by))


def test_one_block_of_all_rows_shuffles_users_of_like_activity() -> None:
    rows = Interactions.from_csr(long_tailed())
    users, items, _ = whole(rows, np.ones((1, 1)), seed=0)
    copy = sp.csr_array((np.ones(len(users)), (users, items)), shape=(len(rows), rows.n_items))
    np.testing.assert_array_equal(np.bincount(items, minlength=rows.n_items), rows.item_counts())
    assert spearmanr(np.diff(copy.indptr), rows.counts).statistic > 0.95
    own = {tuple(np.sort(rows.slice(k, k + 1).items).tolist()) for k in range(len(rows))}
    assert {tuple(copy.indices[a:b].tolist()) for a, b in zip(copy.indptr, copy.indptr[1:])} == own


def test_a_block_holds_some_rows_of_one_user_for_each() -> None:
    rows = Interactions.from_csr(long_tailed())
    rates = np.array([[0.9, 0.2, 0.5], [0.1, 1.0, 0.3]])
    users, items, sources = whole(rows, rates, seed=1)
    assert len(set(zip(users.tolist(), items.tolist()))) == len(users)
    np.testing.assert_array_equal(items % rows.n_items, rows.items[sources])
    owner = np.repeat(np.arange(len(rows)), rows.counts)[sources]
    for (block, column), rate in np.ndenumerate(rates):
        here = (users // len(rows) == block) & (items // rows.n_items == column)
        error = np.sqrt(rate * (1 - rate) / rows.n_rows)
        assert abs(here.sum() / rows.n_rows - rate) <= 4.5 * error
        pairs = set(zip(users[here].tolist(), owner[here].tolist()))
        assert len(pairs) == len({user for user, _ in pairs}) == len({source for _, source in pairs})
    # In another block of items, a user is the copy of another one.
    first, second = ({u: s for u, s, i in zip(users, owner, items // rows.n_items) if i == k} for k in (0, 2))
    both = first.keys() & second.keys()
    assert sum(first[user] == second[user] for user in both) < 0.4 * len(both)


def test_parts_do_not_matter_and_the_seed_does() -> None:
    rows = Interactions.from_csr(long_tailed())
    rates = expansion.keep_rates(long_tailed(), (3, 4), 0)

    def pairs(seed: int, pieces: int) -> set[tuple[int, int]]:
        users, items, _ = whole(rows, rates, seed, pieces)
        return set(zip(users.tolist(), items.tolist()))

    assert pairs(0, 1) == pairs(0, 7)
    assert pairs(0, 1) != pairs(1, 1)


def test_activity_popularity_and_spectrum_are_like_the_logs() -> None:
    matrix = long_tailed(1, 600, 200)
    rows = Interactions.from_csr(matrix)
    users, items, _ = whole(rows, expansion.keep_rates(matrix, (6, 6), 0), seed=0)
    assert gini(np.bincount(items, minlength=6 * 200)) == pytest.approx(gini(rows.item_counts()), abs=0.1)
    assert gini(np.bincount(users, minlength=6 * 600)) == pytest.approx(gini(rows.counts), abs=0.1)
    copy = sp.csr_array((np.ones(len(users)), (users, items)), shape=(3600, 1200))

    def decay(m: sp.csr_array) -> np.ndarray:
        values: np.ndarray = sp.linalg.svds(m.astype(float), k=4, v0=np.ones(min(m.shape)))[1][::-1]
        return values / values[0]

    np.testing.assert_allclose(decay(copy), decay(matrix), atol=0.15)


def test_the_shuffle_is_a_permutation_within_groups() -> None:
    counts = np.random.default_rng(0).integers(1, 1000, 500)
    users = np.arange(1000, 1500)
    found = expansion.shuffled(users, counts, hashing.stream("tests/expansion"))
    assert sorted(found.tolist()) == list(range(500))
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    np.testing.assert_array_equal(rank[found] // 10, rank // 10)
    assert (found != np.arange(500)).mean() > 0.8
