"""Fractal expansion: a log of any size that has the structure of a given one, for rehearsals.

The given log is a matrix [users, items]. Its expansion by a × b is a matrix [a · users, b · items] of a × b blocks,
each the given matrix with a share of its entries kept. These keep rates are a small copy of the given matrix itself:
its truncated SVD with the factors averaged over a groups of users and b groups of items. So the expansion repeats at
the large scale what the log shows at the small one: few items and users have most of the rows, and the spectrum decays
alike. No block depends on another, so that any part of the expansion can be made alone.

Source: Belletti et al., "Scalable Realistic Recommendation Datasets through Fractal Expansions" (arXiv 1901.08910).
They shuffle the rows and columns of every block, which evens out how active users and how popular items are, and leaves
models little to learn. Here users are shuffled among those of like activity and items keep their place: both
distributions keep their tails, and items that belong together do so for all blocks of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.ordering import order_by

# Rank of the small copy.
_RANK = 10
# Every block keeps some rows, so that each group of users meets each group of items.
_LOWEST_RATE = 0.02
# Groups of users of like activity, within which users are shuffled.
_GROUPS_OF_USERS = 50


@dataclass(frozen=True)
class Expanded:
    """Rows of some users of the expansion, grouped by user.

    Attributes:
        users: int64 [n], number of the row's user in the expansion.
        items: int64 [n], number of its item.
        sources: int64 [n], position of the row in the given log that it is a copy of.
    """

    users: np.ndarray
    items: np.ndarray
    sources: np.ndarray


def keep_rates(matrix: sp.csr_array, by: tuple[int, int], seed: int) -> np.ndarray:
    """Returns the share of the rows that each block keeps, float64 [a, b], between 0.02 and 1.

    The binary matrix less its mean, its users by activity and its items by popularity, both descending, is factored by
    a truncated SVD U Σ Vᵀ. The rows of U are averaged over a groups, those of V over b; the results are made
    orthonormal again and multiplied, and the product is scaled to the range of rates. In exact arithmetic the signs of
    the singular vectors cancel.

    Args:
        matrix: binary [users, items]; a sample of the users will do.
        by: a and b, at most the number of users and of items.
        seed: Seed of the solver's start.
    """
    from scipy.sparse.linalg import LinearOperator, svds

    a, b = by
    users = np.argsort(-np.diff(matrix.indptr), kind="stable")
    items = np.argsort(-np.bincount(matrix.indices, minlength=matrix.shape[1]), kind="stable")
    ordered = sp.csr_array(matrix[users][:, items], dtype=np.float64)
    mean, (n, m) = ordered.sum() / (ordered.shape[0] * ordered.shape[1]), ordered.shape
    transposed = ordered.T.tocsr()
    centred = LinearOperator(
        shape=(n, m),
        dtype=np.float64,
        matvec=lambda x: ordered @ x - mean * x.sum(),
        rmatvec=lambda y: transposed @ y - mean * y.sum(),
    )
    rank = min(_RANK, n - 1, m - 1)
    if rank < 1 or mean in (0, 1):
        return np.ones(by)
    draws = hashing.combine(hashing.stream("expansion/svd", seed), np.arange(min(n, m), dtype=np.uint64))
    left, values, right = svds(centred, k=rank, v0=hashing.uniform(draws) - 0.5)
    copy = _resized(left, a) @ np.diag(values) @ _resized(right.T, b).T
    low, high = copy.min(), copy.max()
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        return np.ones(by)
    rates: np.ndarray = _LOWEST_RATE + (1 - _LOWEST_RATE) * (copy - low) / (high - low)
    return rates


def _resized(factor: np.ndarray, n: int) -> np.ndarray:
    """float64 [n, columns]: means over ``n`` equal groups of rows, each column made orthonormal to those of larger
    singular values (the last ones) as far as ``n`` rows allow."""
    bounds = np.linspace(0, len(factor), n + 1).round().astype(np.int64)
    means = np.add.reduceat(factor, bounds[:-1], axis=0) / np.diff(bounds)[:, None]
    q, r = np.linalg.qr(means[:, ::-1])
    # QR chooses signs; those of the means are kept.
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    result = np.zeros_like(means)
    result[:, : q.shape[1]] = q
    return np.ascontiguousarray(result[:, ::-1])


def expand(
    rows: Interactions, part: tuple[int, int], block: int, rates: np.ndarray, n_users: int, seed: int
) -> Iterator[Expanded]:
    """Yields the rows of a range of users of the expansion, one block of items after another.

    User u of block i of the users has, in block j of the items, rows of a user of like activity from the same shard:
    another one in each block.

    Args:
        rows: one shard of the given log.
        part: first and last (exclusive) user, as positions in the shard.
        block: block of users, i.
        rates: float64 [b], keep rates of this block.
        n_users: number of users of the given log; user u of block i has the number i · n_users + u.
        seed: Seed of the shuffles and of the choice of rows.
    """
    start, stop = part
    counts = rows.counts
    for column, rate in enumerate(rates.tolist()):
        sources = shuffled(rows.users, counts, hashing.stream("expansion/users", seed, block, column))[start:stop]
        own = counts[sources]
        positions = ragged.indices(rows.offsets[sources], own)
        # By user and item rather than position, so that the draws do not depend on how the log is sharded.
        draws = hashing.combine(
            hashing.stream("expansion/rows", seed, block, column),
            np.repeat(rows.users[sources], own).astype(np.uint64),
            rows.items[positions].astype(np.uint64),
        )
        kept = hashing.uniform(draws) < rate
        positions = positions[kept]
        yield Expanded(
            users=np.repeat(rows.users[start:stop], own)[kept] + block * n_users,
            items=rows.items[positions].astype(np.int64) + column * rows.n_items,
            sources=positions,
        )


def shuffled(users: np.ndarray, counts: np.ndarray, stream: hashing.Stream) -> np.ndarray:
    """Returns a permutation of the users, int64 [n], that moves each within a group of like activity.

    Args:
        users: int64 [n], numbers of the users.
        counts: int64 [n], rows of each.
        stream: Stream of the draws.
    """
    n = len(users)
    by_activity = np.argsort(-counts, kind="stable")
    group = np.arange(n) * min(n, _GROUPS_OF_USERS) // max(n, 1)
    draws = hashing.combine(stream, users[by_activity].astype(np.uint64))
    permutation = np.empty(n, dtype=np.int64)
    permutation[by_activity] = by_activity[order_by(group, draws)]
    return permutation
