"""Sorting by several columns at the cost of sorting by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_at_scale.data.ordered_bits import ordered_bits

_WORD = 64


def order_by(*keys: np.ndarray) -> np.ndarray:
    """Returns the order, int64 [n], by the first key, then the second, and so on: like ``np.lexsort`` with its keys
    reversed, except that rows equal in all keys are in no particular order.

    Keys (integers, or floats without NaN) are shifted to start at 0, stripped of their common trailing zero bits, and
    packed into 64-bit words. Most logs need one or two words, so one or two single-key sorts replace four (about four
    times faster than ``np.lexsort``).
    """
    words = _pack([_as_bits(key) for key in keys])
    order: np.ndarray | None = None
    for word in reversed(words):
        if order is None:
            order = np.argsort(word)
        else:
            # For 16-bit keys NumPy's stable sort is a radix sort.
            key = word.astype(np.uint16) if len(word) and word.max() < 1 << 16 else word
            order = order[np.argsort(key[order], kind="stable")]
    assert order is not None
    return order


def _as_bits(key: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the key as order-preserving uint64 starting at 0, and its width in bits."""
    if key.dtype.kind == "f":
        # With the top bit flipped, the bits sort like the floats as signed integers.
        key = (ordered_bits(key.astype(np.float64)) ^ np.uint64(1 << 63)).view(np.int64)
    if len(key) == 0:
        return np.zeros(0, dtype=np.uint64), 0
    low = key.min()
    bits = key.astype(np.int64).view(np.uint64) - np.int64(low).view(np.uint64)
    used = int(np.bitwise_or.reduce(bits))
    zeros = (used & -used).bit_length() - 1 if used else 0
    return bits >> np.uint64(zeros), max(used.bit_length() - zeros, 0)


def _pack(keys: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
    """Packs keys into words, most significant first; a key that does not fit begins the next word."""
    words: list[np.ndarray] = []
    room = 0
    for bits, width in reversed(keys):
        if not words or width > room:
            words.insert(0, bits)
            room = _WORD - width
        else:
            words[0] = words[0] | (bits << np.uint64(_WORD - room))
            room -= width
    return words
