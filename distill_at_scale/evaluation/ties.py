"""Equal scores: a draw by user and item orders them, never the number of an item.

With item numbers as ties, a model whose scores are all equal would recommend the items with the smallest ids; thirty
equally popular ones would give popularity an hr@1 of 0.20 or 0 where chance is 0.03, as ids happen to fall.
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing

_FACTORS = (0x85EBCA6B, 0xC2B2AE35)
_INVERSES = tuple(pow(factor, -1, 1 << 32) for factor in _FACTORS)
_U32 = 0xFFFFFFFF


def salts(users: np.ndarray) -> np.ndarray:
    """uint64 [b], below 2^32: what makes each user's order of equal items its own.

    Args:
        users: int64 [b], the users' numbers.
    """
    return hashing.combine(hashing.stream("ranking/ties"), users.view(np.uint64)) >> np.uint64(32)


def places(items: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """uint64, below 2^32: where an item stands among equal ones; a bijection of 32 bits for each salt.

    Args:
        items: int64, below 2^32.
        salt: uint64 of the same shape, from :func:`salts`.

    Source: the finaliser of MurmurHash3 (Appleby, public domain), whose steps can all be undone.
    """
    z = items.astype(np.uint64) ^ salt
    z ^= z >> np.uint64(16)
    z = (z * np.uint64(_FACTORS[0])) & np.uint64(_U32)
    z ^= z >> np.uint64(13)
    z = (z * np.uint64(_FACTORS[1])) & np.uint64(_U32)
    return z ^ (z >> np.uint64(16))


def items_at(place: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """int64: the items of these :func:`places`; ``salt`` broadcasts against ``place``."""
    z = place ^ (place >> np.uint64(16))
    z = (z * np.uint64(_INVERSES[1])) & np.uint64(_U32)
    z ^= (z >> np.uint64(13)) ^ (z >> np.uint64(26))
    z = (z * np.uint64(_INVERSES[0])) & np.uint64(_U32)
    z ^= z >> np.uint64(16)
    return (z ^ salt).astype(np.int64)
