"""Sorting by several columns at the speed of sorting one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_at_scale.data.ordered_bits import ordered_bits

_WORD = 64


def order_by(*keys: np.ndarray) -> np.ndarray:
    """int64 [n]: the order by the first key, then the second, and so on: ``np.lexsort`` with its keys turned
    round, but rows that are equal in all keys come in any order.

    Keys (integers, or floats without NaN) are shifted to start at 0, stripped of trailing zero bits that all
    values share, and packed side by side into 64-bit words; most logs need one or two words, so one or two
    single-key sorts do the work of four (about four times faster than ``np.lexsort``).
    """
    words = _pack([_as_bits(key) for key in keys])
    order: np.ndarray | None = None
    for word in reversed(words):
        if order is None:
            order = np.argsort(word)
        else:
            # NumPy sorts 16-bit keys by radix when asked for a stable order.
            key = word.astype(np.uint16) if len(word) and word.max() < 1 << 16 else word
            order = order[np.argsort(key[order], kind="stable")]
    assert order is not None
    return order


def _as_bits(key: np.ndarray) -> tuple[np.ndarray, int]:
    """The key as uint64 from 0 on, in the same order, and how many bits it takes."""
    if key.dtype.kind == "f":
        # The top bit turned round, so that integers of either sign are in the floats' order.
        key = (ordered_bits(key.astype(np.float64)) ^ np.uint64(1 << 63)).view(np.int64)
    if len(key) == 0:
        return np.zeros(0, dtype=np.uint64), 0
    low = key.min()
    bits = key.astype(np.int64).view(np.uint64) - np.int64(low).view(np.uint64)
    used = int(np.bitwise_or.reduce(bits))
    zeros = (used & -used).bit_length() - 1 if used else 0
    return bits >> np.uint64(zeros), max(used.bit_length() - zeros, 0)


def _pack(keys: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
    """Words, most significant first; keys that would overflow one begin the next."""
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
