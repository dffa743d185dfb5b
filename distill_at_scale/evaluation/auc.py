"""The global AUC from mergeable histograms: how often a held-out item outscores a random unseen one.

All held-out items of all users form one set of positives, :data:`N_NEGATIVES` random unseen items of each
user one set of negatives, as in the ∞-AE paper's evaluation; scores are thus compared across users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.evaluation.order import ordered_bits, sorted_unique

N_NEGATIVES: Final = 50

# Sign, exponent and 11 bits of mantissa: scores closer than 1 part in 2048 count as ties.
_KEPT_BITS: Final = 20


def unseen_negatives(
    seen: np.ndarray,
    seen_offsets: np.ndarray,
    users: np.ndarray,
    n_items: int,
    seed: int,
    n_draws: int = N_NEGATIVES,
) -> tuple[np.ndarray, np.ndarray]:
    """Random items that users have not seen: hashes of (seed, user, draw), uniform, with replacement.

    The draw r in [0, number of unseen items) names the r-th unseen item, so nothing is ever drawn twice over.

    Args:
        seen: int64 [n], each user's history and held-out items, ascending and distinct within the user.
        seen_offsets: int64 [b + 1].
        users: int64 [b], user numbers.
        n_items: size of the item space.
        seed: of the draws.
        n_draws: negatives a user; a user who has seen everything gets none.

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
    # The j-th seen item s_j has s_j - j unseen items below it, ascending in j: count those with s_j - j <= r.
    below = seen - (np.arange(len(seen)) - np.repeat(seen_offsets[:-1], counts))
    keys = np.repeat(np.arange(len(users)), counts) * (n_items + 1) + below
    skipped = np.searchsorted(keys, position * (n_items + 1) + draw, side="right") - seen_offsets[position]
    return position, draw + skipped


def _empty(dtype: type) -> np.ndarray:
    return np.empty(0, dtype=dtype)


@dataclass
class ScoreHistogram:
    """Counts of positives and negatives by score; small, mergeable, independent of the number of users.

    Scores become order-preserving integers (the float32 bits, mirrored for negative numbers) cut to their
    upper 20 bits: resolution 2^-11 of the score (0.05 %), at most 2^20 occupied bins, in practice some ten
    thousand. Two scores in one bin count as a tie, one half.

    Attributes:
        keys: uint32 [m], occupied bins, ascending.
        positives: int64 [m], held-out items in each.
        negatives: int64 [m], unseen items in each.
    """

    keys: np.ndarray = field(default_factory=lambda: _empty(np.uint32))
    positives: np.ndarray = field(default_factory=lambda: _empty(np.int64))
    negatives: np.ndarray = field(default_factory=lambda: _empty(np.int64))

    def add(self, positives: np.ndarray, negatives: np.ndarray) -> None:
        """Counts float32 scores of held-out and of unseen items."""
        for scores, is_positive in ((positives, True), (negatives, False)):
            keys, counts = _bins(scores)
            none = np.zeros_like(counts)
            self.merge(ScoreHistogram(keys, counts if is_positive else none, none if is_positive else counts))

    def merge(self, other: ScoreHistogram) -> None:
        """Adds another histogram's counts."""
        keys = sorted_unique(np.concatenate((self.keys, other.keys)))
        merged = np.zeros((2, len(keys)), dtype=np.int64)
        merged[:, np.searchsorted(keys, self.keys)] += (self.positives, self.negatives)
        merged[:, np.searchsorted(keys, other.keys)] += (other.positives, other.negatives)
        self.keys, (self.positives, self.negatives) = keys, merged

    def auc(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties ½; NaN where either side is empty."""
        pairs = float(self.positives.sum()) * float(self.negatives.sum())
        if not pairs:
            return float("nan")
        below = np.cumsum(self.negatives) - self.negatives
        return float((self.positives * (below + 0.5 * self.negatives)).sum() / pairs)


def _bins(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Occupied bins, uint32 ascending, and the number of scores in each."""
    bins = np.sort(ordered_bits(scores) >> np.uint32(32 - _KEPT_BITS))
    starts = np.flatnonzero(np.concatenate(([True], bins[1:] != bins[:-1]))) if len(bins) else _empty(np.int64)
    return bins[starts], np.diff(starts, append=len(bins))
