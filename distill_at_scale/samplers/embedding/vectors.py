"""Embeddings of users and items, for samplers that ask how near they are to each other: a truncated SVD in passes.

Randomised subspace iteration on A = D_u^-1/2 X D_i^-1/2, X the train rows and D the degrees, which keeps a popular
item from being all that users have in common. Source: Halko, Martinsson, Tropp, "Finding structure with randomness"
(2011), algorithm 4.4.
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
"""Embeddings are whole numbers, this long: their sums and products below 2^53 are exact in whatever order."""
_PASSES = 4
# Of the whole work, for the progress shown.
_SHARE = 0.5
_FINE = 1 << 30


class EmbeddingRounds(ABC):
    """Passes that learn a basis of the items; what follows on it is a subclass's to say.

    A pass moves 16 numbers an item, 128 bytes, from every task: for a few million items at most.
    """

    listed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, task: Task) -> None:
        self.task = task

    def begin(self) -> Arrays:
        return {}

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        if not shared:
            return {}, {"degree": np.bincount(rows.items, minlength=self.task.n_items).astype(np.int64)}
        if shared["passes"][0] < _PASSES:
            users = _scale(rows.counts)[:, None] * _project(rows, shared)
            whole = np.rint(users * _FINE).astype(np.int64)
            return {}, {"image": _matrix(rows, np.int64).T @ whole}
        return {}, self.visit_embedded(rows, shared)

    def reduce(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        if not shared:
            degree = brought["degree"]
            begin = hashing.stream("embedding/basis", self.task.seed)
            basis = np.sqrt(degree)[:, None] * signs(self.task.n_items, DIMENSIONS, begin)
            return {"degree": degree, "basis": orthonormal(basis), "passes": np.zeros(1, dtype=np.int64)}, 0.0
        if shared["passes"][0] < _PASSES:
            image = _scale(shared["degree"])[:, None] * (brought["image"] / _FINE)
            passes = shared["passes"] + 1
            return {**shared, "basis": orthonormal(image), "passes": passes}, _SHARE * passes[0] / _PASSES
        return self.advance_embedded(shared, brought)

    @abstractmethod
    def visit_embedded(self, rows: TrainRows, shared: Arrays) -> Arrays:
        """What a visit brings once the basis is there."""

    @abstractmethod
    def advance_embedded(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        """As :meth:`advance`, once the basis is there."""


def user_embeddings(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """float64 [users, 16] of whole numbers: rows of A V, brought to the length of ``UNIT`` (0 without rows)."""
    return _whole(_project(rows, shared))


def item_embeddings(shared: Arrays, items: np.ndarray) -> np.ndarray:
    """float64 [items, 16] of whole numbers: their rows of V, brought to the length of ``UNIT`` (0 without rows)."""
    return _whole(shared["basis"][items].astype(np.float64))


def signs(n: int, width: int, begin: hashing.Stream) -> np.ndarray:
    """float64 [n, width] of ±1, the same on every machine."""
    draws = hashing.combine(begin, np.arange(n * width, dtype=np.uint64))
    return (1.0 - 2.0 * (draws >> np.uint64(63)).astype(np.float64)).reshape(n, width)


def gaussians(n: int, width: int, begin: hashing.Stream) -> np.ndarray:
    """float64 [n, width] of whole numbers, drawn from a normal distribution of standard deviation 2^16.

    Products with vectors of length :data:`UNIT` and their sums stay below 2^53 and so are exact.
    """
    from scipy.special import ndtri

    draws = hashing.combine(begin, np.arange(n * width, dtype=np.uint64))
    return np.rint(ndtri(hashing.uniform_open(draws)) * 2.0**16).reshape(n, width)


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """float32 [n, width]: an orthonormal basis of the columns' span, zero columns where it has fewer dimensions."""
    length = np.sqrt((columns * columns).sum(axis=0))
    columns = columns / np.where(length > 0, length, 1.0)
    # Products of whole columns of length 2^26 add up to 2^52 at most: no thread count or order changes the sum.
    whole = np.rint(columns * 2.0**26)
    values, vectors = np.linalg.eigh(whole.T @ whole / 2.0**52)
    # Below this the Gram matrix knows a direction by its rounding only.
    real = values > 1e-6
    turned = np.zeros(vectors.shape)
    turned[:, : real.sum()] = vectors[:, real] / np.sqrt(values[real])
    return (columns @ turned).astype(np.float32)


def _matrix(rows: TrainRows, dtype: type) -> sp.csr_array:
    return sp.csr_array((np.ones(len(rows), dtype), rows.items, rows.offsets), shape=(rows.n_users, rows.n_items))


def _project(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """float64 [users, 16]: the shard's rows of A V. A user's sum runs over its own rows, in their order."""
    basis = _scale(shared["degree"])[:, None] * shared["basis"]
    return _scale(rows.counts)[:, None] * (_matrix(rows, np.float64) @ basis)


def _scale(degree: np.ndarray) -> np.ndarray:
    return np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)


def _whole(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors * vectors).sum(axis=1))
    return np.rint(vectors * (UNIT / np.where(length > 0, length, 1.0))[:, None])
