"""A random selection of a dataset's users: every process draws the same ones, and none holds a list of them."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing

_AT_ONCE = 1 << 20


def draws(users: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n]: a draw for each user number; no two are equal.

    Args:
        users: int64 [n].
    """
    return hashing.combine(hashing.stream("predict/users", seed), users.astype(np.uint64))


def threshold(n_users: int, wanted: int, seed: int) -> int:
    """The largest draw of the ``wanted`` users (at least 1, at most n_users) with the smallest ones.

    Takes memory for ``wanted`` draws and time for all users.
    """
    smallest = np.empty(0, dtype=np.uint64)
    for start in range(0, n_users, _AT_ONCE):
        more = draws(np.arange(start, min(start + _AT_ONCE, n_users)), seed)
        smallest = np.concatenate((smallest, more))
        if len(smallest) > wanted:
            smallest = np.partition(smallest, wanted - 1)[:wanted]
    return int(smallest.max())
