"""The global AUC from mergeable histograms: how often a held-out item outscores a random unseen one.

The held-out items of all users are the positives; :data:`N_NEGATIVES` random unseen items per user are the negatives,
as in the evaluation of the ∞-AE paper. Scores are thus compared across users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.data.ordered_bits import ordered_bits
from distill_at_scale.data.ordering import sorted_integers

N_NEGATIVES: Final = 50

MOST_BINS: Final = 1 << 18
"""Maximum number of bins of a histogram (5 MiB)."""


def unseen_negatives(
    seen: np.ndarray,
    seen_offsets: np.ndarray,
    users: np.ndarray,
    n_items: int,
    seed: int,
    n_draws: int = N_NEGATIVES,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws random items that users have not seen, uniformly with replacement, by hashes of (seed, user, draw).

    A draw r in [0, number of unseen items) selects the r-th unseen item, so no draw is rejected.

    Args:
        seen: int64 [n], each user's history and held-out items, ascending and distinct within the user.
        seen_offsets: int64 [b + 1], start of each user's items in ``seen``.
        users: int64 [b], user numbers.
        n_items: Number of items.
        seed: Seed of the draws.
        n_draws: Negatives per user; users who have seen every item get none.

    Returns:
        positions of the users (0 … b-1) int64 [m] and items int64 [m].
    """
    counts = np.diff(seen_offsets)
    rows = np.flatnonzero(counts < n_items)
    draws = np.tile(np.arange(n_draws, dtype=np.uint64), len(rows))
    begin = hashing.stream("auc/negatives", seed)
    hashes = hashing.combine(begin, np.repeat(users[rows].astype(np.uint64), n_draws), draws)
    position = np.repeat(rows, n_draws)
    unseen = (n_items - counts[position]).astype(np.uint64)
    draw = (((hashes >> np.uint64(32)) * unseen) >> np.uint64(32)).astype(np.int64)
    # The j-th seen item s_j has s_j - j unseen items below it, which ascends in j: count those with s_j - j <= r.
    below = seen - (np.arange(len(seen)) - np.repeat(seen_offsets[:-1], counts))
    keys = np.repeat(np.arange(len(users)), counts) * (n_items + 1) + below
    skipped = np.searchsorted(keys, position * (n_items + 1) + draw, side="right") - seen_offsets[position]
    return position, draw + skipped


def _empty(dtype: type) -> np.ndarray:
    return np.empty(0, dtype=dtype)


@dataclass
class ScoreHistogram:
    """Counts of positives and negatives by score; bounded, mergeable, independent of the number of users.

    Scores become order-preserving integers: the float32 bits, mirrored for negative numbers. Up to :data:`MOST_BINS`
    distinct scores each have a bin of their own, and the AUC is exact. Beyond that all keys lose as few low bits as
    needed, and two scores in one bin count as a tie (one half). The resolution adapts to any spread of scores, even
    1e-4 around 10, and the result does not depend on the order of scores or merges.

    Attributes:
        keys: uint32 [m], occupied bins, ascending.
        positives: int64 [m], number of held-out items in each bin.
        negatives: int64 [m], number of unseen items in each bin.
        shift: Number of low bits removed from the keys.
    """

    keys: np.ndarray = field(default_factory=lambda: _empty(np.uint32))
    positives: np.ndarray = field(default_factory=lambda: _empty(np.int64))
    negatives: np.ndarray = field(default_factory=lambda: _empty(np.int64))
    shift: int = 0

    def add(self, positives: np.ndarray, negatives: np.ndarray) -> None:
        """Adds float32 scores of held-out and of unseen items."""
        for scores, is_positive in ((positives, True), (negatives, False)):
            keys, counts = _counted(ordered_bits(scores) >> np.uint32(self.shift))
            none = np.zeros_like(counts)
            self.merge(ScoreHistogram(keys, *((counts, none) if is_positive else (none, counts)), shift=self.shift))

    def merge(self, other: ScoreHistogram) -> None:
        """Adds another histogram's counts."""
        self._coarsen(other.shift)
        keys, counts = _coarser(other.keys, np.stack((other.positives, other.negatives)), self.shift - other.shift)
        position = np.searchsorted(self.keys, keys)
        known = np.zeros(len(keys), dtype=bool)
        inside = position < len(self.keys)
        known[inside] = self.keys[position[inside]] == keys[inside]
        merged = np.stack((self.positives, self.negatives))
        merged[:, position[known]] += counts[:, known]
        self.keys = np.insert(self.keys, position[~known], keys[~known])
        self.positives, self.negatives = np.insert(merged, position[~known], counts[:, ~known], axis=1)
        while len(self.keys) > MOST_BINS:
            self._coarsen(self.shift + 1)

    def auc(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties ½; NaN if there are no positives or no
        negatives."""
        pairs = float(self.positives.sum()) * float(self.negatives.sum())
        if not pairs:
            return float("nan")
        below = np.cumsum(self.negatives) - self.negatives
        return float((self.positives * (below + 0.5 * self.negatives)).sum() / pairs)

    def _coarsen(self, shift: int) -> None:
        if shift > self.shift:
            counts = np.stack((self.positives, self.negatives))
            self.keys, (self.positives, self.negatives) = _coarser(self.keys, counts, shift - self.shift)
            self.shift = shift


def _coarser(keys: np.ndarray, counts: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes the last ``bits`` of ascending keys and sums the counts [2, m] of keys that become equal."""
    if not bits or not len(keys):
        return keys, counts
    keys = keys >> np.uint32(bits)
    starts = _starts(keys)
    return keys[starts], np.add.reduceat(counts, starts, axis=1)


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, ascending, with their counts."""
    ordered = sorted_integers(keys)
    starts = _starts(ordered)
    return ordered[starts], np.diff(starts, append=len(ordered))


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Start of each run of equal keys."""
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else _empty(np.int64)
