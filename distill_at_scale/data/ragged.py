"""Groups of unequal size that lie one after another in a flat array: where each begins, and positions within each."""

from __future__ import annotations

import numpy as np


def offsets(counts: np.ndarray) -> np.ndarray:
    """int64 [groups + 1]: group ``k`` is ``flat[offsets[k]:offsets[k + 1]]``; ``counts`` [groups] are the sizes."""
    result = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=result[1:])
    return result


def positions(counts: np.ndarray) -> np.ndarray:
    """int64 [sum of ``counts``]: 0, 1, … within each group, in the order of the flat array."""
    starts = offsets(counts)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], counts)


def indices(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64 [sum of ``counts``]: flat positions of slices of ``counts`` rows from ``starts`` [groups] on."""
    own = offsets(counts)
    return np.arange(own[-1]) + np.repeat(starts - own[:-1], counts)
