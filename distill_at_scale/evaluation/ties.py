"""Tie-breaking: a draw by user and item orders equal scores, never the item number.

If item numbers broke ties, a model with equal scores for all items would recommend those with the smallest ids. With
thirty equally popular items, popularity would have an hr@1 of 0.20 or 0, depending on the ids, where chance is 0.03.
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing

_FACTORS = (0x85EBCA6B, 0xC2B2AE35)
_INVERSES = tuple(pow(factor, -1, 1 << 32) for factor in _FACTORS)
_U32 = 0xFFFFFFFF


def salts(users: np.ndarray) -> np.ndarray:
    """Returns a salt per user, uint64 [b], below 2^32, which makes the order of equal items differ between users.

    Args:
        users: int64 [b], user numbers.
    """
    return hashing.combine(hashing.stream("ranking/ties"), users.view(np.uint64)) >> np.uint64(32)


def places(items: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Returns each item's position among equal scores, uint64, below 2^32; a bijection of 32 bits for each salt.

    Args:
        items: int64, below 2^32.
        salt: uint64 of the same shape, from :func:`salts`.

    Source: the finaliser of MurmurHash3 (Appleby, public domain), whose steps are all invertible.
    """
    z = items.astype(np.uint32) ^ salt.astype(np.uint32)
    z ^= z >> np.uint32(16)
    z *= np.uint32(_FACTORS[0])
    z ^= z >> np.uint32(13)
    z *= np.uint32(_FACTORS[1])
    z ^= z >> np.uint32(16)
    return z.astype(np.uint64)


def items_at(place: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Inverts :func:`places`: returns the items, int64; ``salt`` broadcasts against ``place``."""
    z = place ^ (place >> np.uint64(16))
    z = (z * np.uint64(_INVERSES[1])) & np.uint64(_U32)
    z ^= (z >> np.uint64(13)) ^ (z >> np.uint64(26))
    z = (z * np.uint64(_INVERSES[0])) & np.uint64(_U32)
    z ^= z >> np.uint64(16)
    return (z ^ salt).astype(np.int64)
