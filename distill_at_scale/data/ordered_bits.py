"""Floating-point numbers as unsigned integers in the same order, for sorts, histograms and exchanges."""

from __future__ import annotations

import numpy as np


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """Keys in the order of ``values``: uint32 of float32, uint64 of every other type (as float64).

    The bits of non-negative floats are in order already; those of negative ones run backwards. 0.0 and -0.0 have the
    same key; NaN is not allowed.
    """
    narrow = values.dtype == np.float32
    kind, sign = (np.uint32, np.uint32(1 << 31)) if narrow else (np.uint64, np.uint64(1 << 63))
    # Adding 0.0 turns -0.0 into 0.0.
    bits = (values.astype(np.float32 if narrow else np.float64, copy=False) + values.dtype.type(0)).view(kind)
    result: np.ndarray = np.where(bits & sign, ~bits, bits | sign)
    return result


def from_ordered_bits(keys: np.ndarray) -> np.ndarray:
    """Returns the numbers of keys that :func:`ordered_bits` made: float32 of uint32, float64 of uint64; 0.0 for
    -0.0."""
    narrow = keys.dtype == np.uint32
    sign = np.uint32(1 << 31) if narrow else np.uint64(1 << 63)
    found: np.ndarray = np.where(keys & sign, keys ^ sign, ~keys).view(np.float32 if narrow else np.float64)
    return found
