"""Rows of a set of users in memory: the input of ``fit`` and ``score``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import ragged


@dataclass(frozen=True)
class Interactions:
    """The rows of ``b`` users, grouped by user and in time order within each user.

    The same arrays serve sequential models (``items[offsets[k]:offsets[k+1]]`` is the history of the k-th user, oldest
    first) and matrix models (:meth:`to_csr`).

    Attributes:
        users: int64 [b], ascending user numbers in the Dataset.
        offsets: int64 [b + 1], start of each user's rows; a user may have none.
        items: int32 [n], item numbers.
        n_items: Number of items in the Dataset.
        ratings: float32 [n], or None if the log has none.
        timestamps: int64 [n], milliseconds since 1970 UTC, or None if the log has none.
        weights: float32 [n], positive: how many rows of the log each stands for, if a sampler kept rows with unequal
            probabilities; None if all count the same, or were not loaded.
    """

    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    n_items: int
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_rows(self) -> int:
        """Number of interactions."""
        return len(self.items)

    @property
    def counts(self) -> np.ndarray:
        """Number of rows of each user, int64 [b]."""
        return np.diff(self.offsets)

    def item_counts(self) -> np.ndarray:
        """Returns the number of rows of each item, int64 [n_items]."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def item_weights(self) -> np.ndarray:
        """Returns the sum of the weights of each item's rows, float64 [n_items]; without weights every row counts 1."""
        return np.bincount(self.items, weights=self.weights, minlength=self.n_items).astype(np.float64)

    def user_weights(self) -> np.ndarray:
        """Returns the mean weight of each user's rows, float64 [b], 0 for users without; without weights 1."""
        if self.weights is None:
            return (self.counts > 0).astype(np.float64)
        owners = np.repeat(np.arange(len(self)), self.counts)
        sums = np.bincount(owners, weights=self.weights, minlength=len(self))
        means: np.ndarray = sums / np.maximum(self.counts, 1)
        return means

    def to_csr(self, values: str = "binary", dtype: np.dtype | type = np.float32) -> sp.csr_array:
        """Returns a sparse [b, n_items] matrix with sorted indices.

        Args:
            values: ``"binary"`` stores 1 for each interaction, ``"rating"`` its rating (1 if the log has none; repeated
                ratings of one item stay separate entries, which SciPy adds up), ``"weight"`` its weight (1 without; a
                repeated pair has the mean of its rows').
            dtype: Type of the values.
        """
        if values == "rating" and self.ratings is not None:
            data = self.ratings.astype(dtype)
        elif values == "weight" and self.weights is not None:
            data = self.weights.astype(dtype)
        else:
            data = np.ones(self.n_rows, dtype=dtype)
        # 32-bit indices halve the memory traffic. The arrays are copied in any case, since callers may change their
        # matrix in place.
        index = np.int32 if self.n_rows <= np.iinfo(np.int32).max else np.int64
        matrix = sp.csr_array(
            (data, self.items.astype(index), self.offsets.astype(index)), shape=(len(self), self.n_items)
        )
        if values == "binary":
            # A log prepared with all duplicates may repeat a pair; it counts once.
            matrix.sum_duplicates()
            matrix.data[:] = 1
        elif values == "weight" and self.weights is not None:
            ones = sp.csr_array((np.ones_like(data), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)
            for each in (matrix, ones):
                each.sum_duplicates()
            matrix.data /= ones.data
        matrix.sort_indices()
        return matrix

    def slice(self, start: int, stop: int) -> Interactions:
        """Returns users ``start:stop`` (positions in this object, not user numbers) as views, without copies."""
        start, stop, _ = slice(start, stop).indices(len(self))
        first, last = int(self.offsets[start]), int(self.offsets[max(start, stop)])
        return Interactions(
            users=self.users[start:stop],
            offsets=self.offsets[start : max(start, stop) + 1] - first,
            items=self.items[first:last],
            n_items=self.n_items,
            ratings=None if self.ratings is None else self.ratings[first:last],
            timestamps=None if self.timestamps is None else self.timestamps[first:last],
            weights=None if self.weights is None else self.weights[first:last],
        )

    def take(self, positions: np.ndarray, timestamps: bool = True) -> Interactions:
        """Returns a copy of the users at ``positions`` (in this object, not user numbers), in that order.

        Args:
            positions: int64 [c]; a position may occur several times.
            timestamps: Whether to copy the times; omitting them costs less.
        """
        counts = self.counts[positions]
        rows = ragged.indices(self.offsets[positions], counts)
        return Interactions(
            users=self.users[positions],
            offsets=ragged.offsets(counts),
            items=self.items[rows],
            n_items=self.n_items,
            ratings=None if self.ratings is None else self.ratings[rows],
            timestamps=self.timestamps[rows] if timestamps and self.timestamps is not None else None,
            weights=None if self.weights is None else self.weights[rows],
        )

    @staticmethod
    def concatenate(parts: Sequence[Interactions], n_items: int, items_only: bool = False) -> Interactions:
        """The users of several parts one after another; no parts give no users.

        Args:
            items_only: leaves out ratings, times and weights, which are else kept where all parts have them.
        """
        if len(parts) == 1 and not items_only:
            return parts[0]

        def joined(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in parts]
            if items_only or not parts or any(array is None for array in arrays):
                return None
            return np.concatenate(arrays)

        return Interactions(
            users=np.concatenate([np.empty(0, np.int64), *(part.users for part in parts)]),
            offsets=ragged.offsets(np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)])),
            items=np.concatenate([np.empty(0, np.int32), *(part.items for part in parts)]),
            n_items=n_items,
            ratings=joined("ratings"),
            timestamps=joined("timestamps"),
            weights=joined("weights"),
        )

    @staticmethod
    def from_csr(matrix: sp.sparray | sp.spmatrix) -> Interactions:
        """Wraps a [users, items] matrix; stored values become ratings, and the item order stands for time."""
        csr = sp.csr_array(matrix)
        return Interactions(
            users=np.arange(csr.shape[0], dtype=np.int64),
            offsets=csr.indptr.astype(np.int64),
            items=csr.indices.astype(np.int32),
            n_items=int(csr.shape[1]),
            ratings=csr.data.astype(np.float32),
        )


def weights_problem(weights: np.ndarray) -> str | None:
    """Returns what is wrong with rows' weights as a clause, or None: each must be a positive, finite number."""
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    if not len(bad):
        return None
    are = "weight is not a positive number" if len(bad) == 1 else "weights are not positive numbers"
    return f"{len(bad):,} {are}; the first, of row {bad[0]:,}, is {weights[bad[0]]}"
