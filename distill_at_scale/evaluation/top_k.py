"""The best items of users by score: the one ranking that evaluation measures and recommendations are made of.

Equal scores are ordered by a draw of user and item (see :mod:`~distill_at_scale.evaluation.ties`), so that a ranking
depends neither on the batch or the machine, nor on how the items are numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.data import ragged
from distill_at_scale.data.ordered_bits import from_ordered_bits, ordered_bits
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.item_blocks import BlockScores, Pairs
from distill_at_scale.evaluation.ties import items_at, places, salts

_LOW = np.uint64(0xFFFFFFFF)
# Larger than the key of any score.
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class TopK:
    """The best items of some users.

    Attributes:
        items: int64 [b, k], best first.
        scores: float32 [b, k] of these items; -inf where not ``valid``.
        valid: bool [b, k], False where a user has fewer unmasked items than places.
        tied: bool [b, k], whether another unmasked item of the user has the same score, so that a draw decided the
            rank.
    """

    items: np.ndarray
    scores: np.ndarray
    valid: np.ndarray
    tied: np.ndarray


def require_finite(scores: np.ndarray, name: str) -> None:
    """Refuses scores that cannot be ranked.

    Args:
        scores: float32 [b, n_items].
        name: Name of the model, for the message.

    Raises:
        DasError: some are NaN or infinite.
    """
    if scores.size and not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        raise DasError(
            f"{name}: some scores are NaN or infinite, so the items cannot be ranked; "
            "fit it with a larger regularisation (lam) or in float64."
        )


def top_k(scores: np.ndarray, mask_rows: np.ndarray, mask_items: np.ndarray, k: int, users: np.ndarray) -> TopK:
    """The k best items of each row, best first; equal scores in the order of a draw.

    Args:
        scores: float32 [b, n_items], finite.
        mask_rows, mask_items: int64 [m], pairs that never enter a list.
        k: length of the lists, cut to n_items.
        users: int64 [b], the users' numbers, which the draw goes by.
    """
    masked = scores.astype(np.float32, copy=True)
    masked[mask_rows, mask_items] = -np.inf
    best = RunningTopK(users, min(k, scores.shape[1]))
    best.add(masked)
    return best.result()


def rank_blocks(
    scores: BlockScores,
    width: int,
    n_items: int,
    users: np.ndarray,
    mask: Pairs,
    k: int,
    name: str,
    asked: Sequence[Pairs] = (),
    rows: np.ndarray | None = None,
) -> tuple[TopK, list[np.ndarray]]:
    """Ranks all items of some users, block by block.

    Args:
        scores: Scores of the batch.
        width: Number of items of a block.
        n_items: Number of items.
        users: int64 [b], the users' numbers, which the draw among equal scores goes by.
        mask: Pairs that never enter a list.
        k: Length of the lists, cut to n_items.
        name: Name of the model, for messages.
        asked: Pairs whose scores are returned, too.
        rows: int64 [b], positions in the batch of the users to rank; default: all.

    Returns:
        The lists, and float32 [m] for each of ``asked``.

    Raises:
        DasError: Scores of the batch have another shape, or are not finite.
    """
    best = RunningTopK(users, min(k, n_items))
    found = [np.empty(len(pairs.rows), dtype=np.float32) for pairs in asked]
    n_batch: int | None = len(users) if rows is None else None
    for first in range(0, n_items, width):
        last = min(first + width, n_items)
        block = scores(first, last)
        n_batch = len(block) if n_batch is None else n_batch
        if block.shape != (n_batch, last - first):
            raise DasError(f"{name}: scores of shape {block.shape}, expected {(n_batch, last - first)} (users, items).")
        require_finite(block, name)
        masked = block.astype(np.float32, copy=True) if rows is None else block[rows].astype(np.float32, copy=False)
        for pairs, values in zip(asked, found):
            chosen = pairs.within(first, last, n_items)
            values[chosen] = masked[pairs.rows[chosen], pairs.items[chosen] - first]
        hidden = mask.within(first, last, n_items)
        masked[mask.rows[hidden], mask.items[hidden] - first] = -np.inf
        best.add(masked, first)
    return best.result(), found


class RunningTopK:
    """The k best items of some users, from the scores of one block of items after another; holds k items a user.

    An item's key is its inverted score above its rank among equals, so that one comparison orders by both. The lists
    do not depend on how the items are divided.
    """

    def __init__(self, users: np.ndarray, k: int) -> None:
        """Takes the users' numbers, int64 [b], and the length of the lists, at most the number of items."""
        self._salt, self._k = salts(users), k
        self._keys = np.empty((len(users), 0), dtype=np.uint64)
        self._last = np.full(len(users), _NONE)  # the largest key of each full list
        self._tied_out = np.zeros(len(users), dtype=bool)  # an item outside the list has the score of the last one

    def add(self, scores: np.ndarray, first: int = 0) -> None:
        """Adds the items first, first + 1, …

        Args:
            scores: float32 [b, w], -inf for pairs that must not enter a list; not NaN.
            first: Number of the first item.
        """
        flat = self._candidates(scores)
        if not len(flat):
            return
        # By searching: a division of each place by the width takes longer.
        starts = np.arange(len(scores)) * scores.shape[1]
        counts = np.diff(np.searchsorted(flat, np.append(starts, scores.size)))
        keys = (~ordered_bits(scores.reshape(-1)[flat])).astype(np.uint64) << np.uint64(32)
        keys |= places(flat - np.repeat(starts - first, counts), np.repeat(self._salt, counts))
        keys, counts, out = self._best_of_block(keys, counts)
        some = np.flatnonzero(counts)
        held, more = self._keys.shape[1], int(counts.max())
        if len(keys) == more * len(scores):  # as many for each user
            merged = keys.reshape(len(scores), more)
            merged = np.concatenate((self._keys, merged), axis=1) if held else merged
        else:
            merged = np.full((len(some), held + more), _NONE)
            merged[:, :held] = self._keys[some]
            place = np.repeat(np.cumsum(counts > 0) - 1, counts)
            merged[place, held + ragged.positions(counts)] = keys
        k = self._k
        if merged.shape[1] < k:  # of every user all items so far
            self._keys = merged
            return
        out = out[some]
        if merged.shape[1] > k:
            merged.partition(k - 1, axis=1)
            out = np.minimum(out, merged[:, k:].min(axis=1) >> np.uint64(32))
            merged = merged[:, :k].copy()
        last = merged.max(axis=1)
        score, before = last >> np.uint64(32), self._last[some] >> np.uint64(32)
        self._tied_out[some] = (out == score) | (self._tied_out[some] & (before == score))
        self._last[some] = last
        if held < k:
            self._keys = merged
        else:
            self._keys[some] = merged

    def _best_of_block(self, keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keeps the k best candidates of each user of a block, of whom there are more if scores tie at the threshold:
        rare, except for popularity-like scores. Also returns the inverted score of those left out."""
        k, starts = self._k, np.cumsum(counts) - counts
        out = np.full(len(counts), _NONE >> np.uint64(32))
        over = np.flatnonzero(counts > k)
        if not len(over):
            return keys, counts, out
        kept = np.ones(len(keys), dtype=bool)
        for row in over:
            start, stop = starts[row], starts[row] + counts[row]
            keys[start:stop].partition(k - 1)
            out[row] = keys[start + k - 1] >> np.uint64(32)
            kept[start + k : stop] = False
        return keys[kept], np.minimum(counts, k), out

    def _candidates(self, scores: np.ndarray) -> np.ndarray:
        """Returns the places, in the flattened table, of all scores that may enter a list, or tie with its last one."""
        k, width = self._k, scores.shape[1]
        if self._keys.shape[1] < k:
            if width <= k:
                return np.arange(scores.size)
            own = np.partition(scores, width - k, axis=1)[:, width - k]
            return np.flatnonzero(scores >= own[:, None])
        threshold = _score_of(self._last)
        passing = scores >= threshold[:, None]
        many = np.flatnonzero(np.count_nonzero(passing, axis=1) > k)
        if len(many):
            own = np.partition(scores[many], width - k, axis=1)[:, width - k]
            passing[many] = scores[many] >= np.maximum(threshold[many], own)[:, None]
        return np.flatnonzero(passing)

    def result(self) -> TopK:
        """Returns the lists."""
        best = np.sort(self._keys, axis=1)
        score = best >> np.uint64(32)
        same = score[:, 1:] == score[:, :-1]
        tied = np.zeros(best.shape, dtype=bool)
        tied[:, 1:] |= same
        tied[:, :-1] |= same
        tied |= self._tied_out[:, None] & (score == score[:, -1:])
        scores = _score_of(best)
        return TopK(items_at(best & _LOW, self._salt[:, None]), scores, scores > -np.inf, tied)


def _score_of(keys: np.ndarray) -> np.ndarray:
    return from_ordered_bits(~(keys >> np.uint64(32)).astype(np.uint32))
