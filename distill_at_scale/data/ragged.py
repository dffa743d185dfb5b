"""Groups of unequal size that lie one after another in a flat array: where each begins, and positions within each."""

from __future__ import annotations

import numpy as np


def offsets(counts: np.ndarray) -> np.ndarray:
    """int64 [groups + 1]: group ``k`` is ``flat[offsets[k]:offsets[k + 1]]``; ``counts`` [groups] are the sizes."""
    result = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=result[1:])
    return result


def runs(same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the runs of equal neighbours in a sequence.

    Args:
        same: bool [n − 1], whether each entry belongs together with the next.

    Returns:
        Number of each entry's run, int64 [n]; whether the run has several entries, bool [n].
    """
    several = np.zeros(len(same) + 1, dtype=bool)
    several[1:] |= same
    several[:-1] |= same
    return offsets(~same), several


def positions(counts: np.ndarray) -> np.ndarray:
    """int64 [sum of ``counts``]: 0, 1, … within each group, in the order of the flat array."""
    starts = offsets(counts)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], counts)


def indices(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64 [sum of ``counts``]: flat positions of slices of ``counts`` rows from ``starts`` [groups] on."""
    own = offsets(counts)
    return np.arange(own[-1]) + np.repeat(starts - own[:-1], counts)
