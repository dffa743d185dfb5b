"""Scores of a batch of users in blocks of items, so that memory grows with users of a batch × items of a block.

A catalogue of few items is a single block. In a large one, a batch has enough users for a block of item vectors to be
read from memory once for all of them, and a block has as many items as keep the scores near 16 MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distill_at_scale.data.interactions import Interactions

BlockScores = Callable[[int, int], np.ndarray]
"""Function from first and last to the scores of items first … last − 1 for a batch of users, float32 [b, last − first];
called in ascending order."""

# Scores of one batch of users, or of one block of its items, stay near this size.
_BYTES = 16 << 20
# In a catalogue where whole rows of fewer users fill it, items are scored in blocks for _USERS users.
_FEWEST_USERS, _USERS = 64, 256
# Copies of a block while it is ranked: the scores as the model and as numpy hold them, masked ones, those that a
# partition moves, and keys of 8 bytes in the worst case; and what the allocator keeps of former ones.
_COPIES = 8
# Weights of hits, popularity and the sort that divides it into slices.
_ITEM_BYTES = 48


@dataclass(frozen=True)
class BlockScorer:
    """Scores users, by blocks of items.

    Attributes:
        begin: Function from the histories of b users to their :data:`BlockScores`.
        bounded: Whether the scores of a block need memory for that block alone; otherwise all items of a user are
            scored at once, and a catalogue is a single block.
    """

    begin: Callable[[Interactions], BlockScores]
    bounded: bool = True

    @staticmethod
    def whole(score: Callable[[Interactions], np.ndarray]) -> BlockScorer:
        """Wraps a function from the histories of b users to scores of all items, float32 [b, n_items]."""

        def begin(histories: Interactions) -> BlockScores:
            scores = score(histories)
            return lambda first, last: scores

        return BlockScorer(begin, bounded=False)

    def all_items(self, histories: Interactions) -> np.ndarray:
        """Returns the scores of all items, [b, n_items]."""
        return self.begin(histories)(0, histories.n_items)

    def batch_users(self, n_items: int) -> int:
        """Number of users to score at once."""
        return _batch_users(n_items, self.bounded)

    def block_items(self, n_items: int, n_users: int) -> int:
        """Number of items of a block, for a batch of ``n_users`` users."""
        return _block_items(n_items, n_users, self.bounded)


def ranking_memory(n_items: int, bounded: bool) -> int:
    """Bytes for ranking users of a catalogue, besides the model and the users' rows; ``bounded`` as in
    :class:`BlockScorer`."""
    users = _batch_users(n_items, bounded)
    return _COPIES * 4 * users * _block_items(n_items, users, bounded) + _ITEM_BYTES * n_items


def _batch_users(n_items: int, bounded: bool) -> int:
    users = default_batch_users(n_items)
    return _USERS if bounded and users < _FEWEST_USERS else users


def _block_items(n_items: int, n_users: int, bounded: bool) -> int:
    if not bounded or n_users <= default_batch_users(n_items):
        return n_items
    return min(n_items, _BYTES // (4 * max(n_users, 1)))


def default_batch_users(n_items: int) -> int:
    """Number of users to score at once, so that the scores of all items take a few megabytes."""
    return max(16, _BYTES // (4 * max(n_items, 1)))


class Pairs:
    """Pairs of user and item, found by block of items.

    Attributes:
        rows, items: int64 [m], position of the user and number of the item.
    """

    def __init__(self, rows: np.ndarray, items: np.ndarray) -> None:
        self.rows, self.items = rows, items
        self._order: np.ndarray | None = None
        self._sorted = items

    def within(self, first: int, last: int, n_items: int) -> np.ndarray | slice:
        """Returns the positions of the pairs whose items are first … last − 1."""
        if first == 0 and last == n_items:
            return slice(None)
        if self._order is None:
            self._order = np.argsort(self.items, kind="stable")
            self._sorted = self.items[self._order]
        start, stop = np.searchsorted(self._sorted, (first, last))
        return self._order[start:stop]
