"""Sorting tricks that the rankings and the AUC share."""

from __future__ import annotations

import numpy as np


def ordered_bits(scores: np.ndarray) -> np.ndarray:
    """uint32 keys in the same order as float32 ``scores`` (no NaN); 0.0 and -0.0 have the same.

    The bits of non-negative floats are in order already; those of negative ones run backwards.
    """
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0.0)).view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(0x80000000))


def sorted_unique(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending; on integers several times faster than numpy's hash-based ``unique``."""
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered
