"""The best items of users by score: the one ranking that evaluation measures and recommendations are made of.

Equal scores are ordered by a draw of user and item (see :mod:`~distill_at_scale.evaluation.ties`), so that a ranking
depends neither on the batch or the machine, nor on how the items are numbered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill_at_scale.data.ordered_bits import ordered_bits
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.ties import items_at, places, salts

# Scores of one batch of users stay near this size.
_BATCH_BYTES = 16 << 20


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


def default_batch_users(n_items: int) -> int:
    """Number of users to score at once, so that their scores take a few megabytes."""
    return max(16, _BATCH_BYTES // (4 * max(n_items, 1)))


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
    n_rows, n_items = scores.shape
    k = min(k, n_items)
    masked = scores.astype(np.float32, copy=True)
    masked[mask_rows, mask_items] = -np.inf
    threshold = np.partition(masked, n_items - k, axis=1)[:, n_items - k]
    rows, items = np.divmod(np.flatnonzero(masked >= threshold[:, None]), n_items)
    salt = salts(users)
    # One integer per candidate, with the inverted score above the rank among equals: one sort orders by both.
    bits = (~ordered_bits(masked[rows, items])).astype(np.uint64) << np.uint64(32)
    keys = bits | places(items, salt[rows])

    counts = np.bincount(rows, minlength=n_rows)
    starts = np.cumsum(counts) - counts
    best = np.empty((n_rows, k), dtype=np.uint64)
    exact = counts == k
    best[exact] = keys[np.repeat(exact, counts)].reshape(-1, k)
    for row in np.flatnonzero(~exact):  # ties at the threshold: rare, except for popularity-like scores
        candidates = keys[starts[row] : starts[row] + counts[row]]
        best[row] = np.partition(candidates, k - 1)[:k]
    best.sort(axis=1)
    score = best >> np.uint64(32)
    same = score[:, 1:] == score[:, :-1]
    tied = np.zeros(best.shape, dtype=bool)
    tied[:, 1:] |= same
    tied[:, :-1] |= same
    # Those at the end may share their score with items that did not make the list.
    tied[~exact] |= score[~exact] == score[~exact][:, -1:]
    chosen = items_at(best & np.uint64(0xFFFFFFFF), salt[:, None])
    chosen_scores = masked[np.arange(n_rows)[:, None], chosen]
    return TopK(chosen, chosen_scores, chosen_scores > -np.inf, tied)
