"""The distinct item ids of a log, and the number of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data.preparation.row_order import ranks

# Ids with the same leading bits: steps from the first of them to an id, at most in the mean and at most for one.
_MEAN_STEPS, _MOST_STEPS = 4, 64


@dataclass(frozen=True)
class ItemIds:
    """The distinct item ids of a log, sorted.

    Attributes:
        ids: The ids, [n].
        first: int32 [up to 2 n], of each value of an integer id's leading bits the position of the first id that has
            it or a larger one; None: ids are strings, or crowd so much that other ways are faster.
        shift: Number of the other bits.
    """

    ids: pl.Series
    first: np.ndarray | None = None
    shift: int = 0

    @classmethod
    def of(cls, ids: pl.Series) -> ItemIds:
        """Indexes sorted distinct ids."""
        if ids.dtype != pl.Int64 or not len(ids):
            return cls(ids)
        distance = _distance(ids.to_numpy(), ids)
        bits = (len(ids) - 1).bit_length()
        shift = max(int(distance[-1]).bit_length() - bits, 0)
        crowd = np.bincount((distance >> np.uint64(shift)).view(np.int64))
        if crowd.max() > _MOST_STEPS or (crowd * (crowd - 1)).sum() > 2 * _MEAN_STEPS * len(ids):
            return cls(ids)
        return cls(ids, (np.cumsum(crowd) - crowd).astype(np.int32), shift)

    def ranks(self, ids: pl.Series) -> np.ndarray:
        """int32 position of each id, [rows], all of which must be among these."""
        if self.first is None or not len(ids):
            return ranks(ids, self.ids)
        known, wanted = self.ids.to_numpy(), ids.to_numpy()
        found: np.ndarray = self.first[_distance(wanted, self.ids) >> np.uint64(self.shift)]
        left = np.flatnonzero(known[found] != wanted)
        while len(left):
            found[left] += 1
            left = left[known[found[left]] != wanted[left]]
        return found


def _distance(values: np.ndarray, ids: pl.Series) -> np.ndarray:
    """uint64 [n], from the least id; that of two integers may exceed the largest one."""
    return values.view(np.uint64) - np.uint64(int(ids[0]) % (1 << 64))
