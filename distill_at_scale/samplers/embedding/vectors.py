"""Embeddings of users and items by a truncated SVD in map-reduce passes, for samplers based on similarity.

Randomised subspace iteration on A = D_u^-1/2 X D_i^-1/2, with X the train rows and D the degrees. The scaling keeps
popular items from dominating the similarity of users. Source: Halko, Martinsson, Tropp, "Finding structure with
randomness" (2011), algorithm 4.4.

Of a catalogue with more than :data:`MOST_COLUMNS` items, X is replaced by X H, where H adds each item, with a random
sign, to a random column: Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature hashing for large scale multitask
learning" (ICML 2009). Products of users' rows keep their expectation, and a task's memory does not grow with the items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import hashing
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.train_rows import TrainRows

DIMENSIONS = 16
UNIT = 1 << 20
"""Length of embeddings, which are integers: their sums and products below 2^53 are exact in any order."""
MOST_COLUMNS = 1 << 21
"""Number of items above which they share columns."""
_PASSES = 4
# Share of the whole work, for the progress display.
_SHARE = 0.5
_FINE = 1 << 30


class EmbeddingPasses(ABC):
    """Passes that compute a basis of the items; subclasses define the passes after it.

    Each pass communicates 16 numbers (128 bytes) per column and task: at most 256 MiB.
    """

    listed: ClassVar[frozenset[str]] = frozenset()
    joins: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        self.task = task

    def begin(self) -> Arrays:
        return {}

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        if not shared:
            hashed = _hash_of(self.task)
            columns, _ = _columns(rows.items, hashed)
            n = min(self.task.n_items, MOST_COLUMNS)
            return {}, {"degree": np.bincount(columns, minlength=n).astype(np.int64)}
        if shared["passes"][0] < _PASSES:
            users = _scale(rows.counts)[:, None] * _project(rows, shared)
            whole = np.rint(users * _FINE).astype(np.int64)
            return {}, {"image": _matrix(rows, shared).T @ whole}
        return {}, self.map_embedded(rows, shared)

    def reduce(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        if not shared:
            degree = outputs["degree"]
            begin = hashing.stream("embedding/basis", self.task.seed)
            basis = np.sqrt(degree)[:, None] * signs(len(degree), DIMENSIONS, begin)
            begun = {"degree": degree, "basis": orthonormal(basis), "passes": np.zeros(1, dtype=np.int64)}
            return {**begun, **_hash_of(self.task)}, 0.0
        if shared["passes"][0] < _PASSES:
            image = _scale(shared["degree"])[:, None] * (outputs["image"] / _FINE)
            passes = shared["passes"] + 1
            return {**shared, "basis": orthonormal(image), "passes": passes}, _SHARE * passes[0] / _PASSES
        return self.reduce_embedded(shared, outputs)

    @abstractmethod
    def map_embedded(self, rows: TrainRows, shared: Arrays) -> Arrays:
        """Returns a shard's outputs of a pass after the basis is complete."""

    @abstractmethod
    def reduce_embedded(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        """As :meth:`reduce`, for passes after the basis is complete."""


def user_embeddings(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """Returns the users' rows of A V, float64 [users, 16] of integers, scaled to length ``UNIT`` (0 without rows)."""
    return _whole(_project(rows, shared))


def item_embeddings(shared: Arrays, items: np.ndarray) -> np.ndarray:
    """Returns the items' rows of V, float64 [items, 16] of integers, scaled to length ``UNIT`` (0 without rows)."""
    columns, sign = _columns(items, shared)
    return _whole(shared["basis"][columns].astype(np.float64)) * (1.0 if sign is None else sign[:, None])


def signs(n: int, width: int, begin: hashing.Stream) -> np.ndarray:
    """Draws signs ±1, float64 [n, width], the same on every machine."""
    draws = hashing.combine(begin, np.arange(n * width, dtype=np.uint64))
    return (1.0 - 2.0 * (draws >> np.uint64(63)).astype(np.float64)).reshape(n, width)


def gaussians(n: int, width: int, begin: hashing.Stream) -> np.ndarray:
    """Draws integers, float64 [n, width], from a normal distribution with standard deviation 2^16.

    Products with vectors of length :data:`UNIT` and their sums stay below 2^53 and are therefore exact.
    """
    from scipy.special import ndtri

    draws = hashing.combine(begin, np.arange(n * width, dtype=np.uint64))
    return np.rint(ndtri(hashing.uniform_open(draws)) * 2.0**16).reshape(n, width)


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """Returns an orthonormal basis of the columns' span, float32 [n, width], with zero columns if it is
    rank-deficient."""
    length = np.sqrt((columns * columns).sum(axis=0))
    columns = columns / np.where(length > 0, length, 1.0)
    # Products of integer columns of length 2^26 sum to at most 2^52: no thread count or order changes the sum.
    whole = np.rint(columns * 2.0**26)
    values, vectors = np.linalg.eigh(whole.T @ whole / 2.0**52)
    # Below this a direction of the Gram matrix is only rounding error.
    real = values > 1e-6
    rotated = np.zeros(vectors.shape)
    rotated[:, : real.sum()] = vectors[:, real] / np.sqrt(values[real])
    return (columns @ rotated).astype(np.float32)


def _hash_of(task: Task) -> Arrays:
    """Returns the seed of the items' columns and signs, int64 [1]; nothing where each item has its own column."""
    return {"hash": np.array([task.seed], dtype=np.int64)} if task.n_items > MOST_COLUMNS else {}


def _columns(items: np.ndarray, shared: Arrays) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the column of each item and its sign, ±1; the items themselves and None where they share no columns."""
    if "hash" not in shared:
        return items, None
    draws = hashing.combine(hashing.stream("embedding/columns", int(shared["hash"][0])), items.astype(np.uint64))
    columns = (draws % np.uint64(MOST_COLUMNS)).astype(np.int64)
    return columns, 1 - 2 * (draws >> np.uint64(63)).astype(np.int64)


def _matrix(rows: TrainRows, shared: Arrays, scale: np.ndarray | None = None) -> sp.csr_array:
    """Returns the rows as X, int64, or X scaled by column, float64."""
    columns, sign = _columns(rows.items, shared)
    values: np.ndarray = np.ones(len(rows), np.int64) if sign is None else sign
    if scale is not None:
        values = scale[columns] if sign is None else sign * scale[columns]
    return sp.csr_array((values, columns, rows.offsets), shape=(rows.n_users, len(shared["degree"])))


def _project(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """Returns the shard's rows of A V, float64 [users, 16]. Each user's sum runs over its own rows, in their order."""
    scaled = _matrix(rows, shared, _scale(shared["degree"]))
    return _scale(rows.counts)[:, None] * (scaled @ shared["basis"].astype(np.float64))


def _scale(degree: np.ndarray) -> np.ndarray:
    return np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)


def _whole(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors * vectors).sum(axis=1))
    return np.rint(vectors * (UNIT / np.where(length > 0, length, 1.0))[:, None])
