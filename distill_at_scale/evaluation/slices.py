"""Metrics by the popularity of the held-out items: head, middle and tail, each with a third of the train rows.

Items are ranked among all others as ever; a slice only counts the held-out rows, and hits, of its own items. A model
that recommends what everybody likes does well on the head, and an average over all rows hides what it does elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.evaluation.exact_sum import ExactSum
from distill_at_scale.evaluation.metrics import ranking_metrics

SLICES = ("head", "middle", "tail")
"""Names, by falling popularity."""
_METRICS = ("ndcg", "recall")
_TIES = hashing.stream("evaluate/slices")


def popularity_slices(item_counts: np.ndarray) -> np.ndarray:
    """Returns the slice of each item, int8 [items]: 0 for the most popular items, which have a third of the train rows
    together, 1 for the next third, 2 for the others, also those without train rows.

    Args:
        item_counts: int64 [items], train rows of each item. A draw orders equally popular items, never their numbers.
    """
    drawn = hashing.combine(_TIES, np.arange(len(item_counts), dtype=np.uint64))
    order = np.lexsort((drawn, -item_counts))
    before = np.cumsum(item_counts[order]) - item_counts[order]
    total = max(int(item_counts.sum()), 1)
    found = np.empty(len(item_counts), dtype=np.int8)
    found[order] = np.minimum(len(SLICES) * before // total, len(SLICES) - 1)
    found[item_counts == 0] = len(SLICES) - 1
    return found


@dataclass
class SliceSums:
    """Accumulates metrics by slice; mergeable, and of constant size.

    Attributes:
        of_item: int8 [items], from :func:`popularity_slices`.
    """

    of_item: np.ndarray
    sums: dict[str, dict[str, ExactSum]] = field(default_factory=dict)
    users: np.ndarray = field(default_factory=lambda: np.zeros(len(SLICES), dtype=np.int64))
    heldout: np.ndarray = field(default_factory=lambda: np.zeros(len(SLICES), dtype=np.int64))
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    items: np.ndarray = field(init=False)
    """Number of items of each slice."""

    def __post_init__(self) -> None:
        self.items = np.bincount(self.of_item, minlength=len(SLICES))

    def add(
        self,
        items: np.ndarray,
        hits: np.ndarray,
        valid: np.ndarray,
        owner: np.ndarray,
        target: np.ndarray,
        ks: tuple[int, ...],
    ) -> None:
        """Adds users with held-out items.

        Args:
            items: int32 [b, K], the users' lists.
            hits: bool [b, K], whether an item of a list is held out.
            valid: bool [b, K], whether a list has an item there.
            owner, target: int64 [rows], position of the user and item of each held-out row, ordered by user.
            ks: Cut-offs.
        """
        of_list, of_target = self.of_item[items], self.of_item[target]
        for k in ks:
            counts = np.bincount(of_list[:, :k][valid[:, :k]], minlength=len(SLICES))
            self.shown[k] = self.shown.get(k, 0) + counts
        for number, name in enumerate(SLICES):
            counts = np.bincount(owner[of_target == number], minlength=len(items))
            some = np.flatnonzero(counts)
            self.users[number] += len(some)
            self.heldout[number] += int(counts.sum())
            if not len(some):
                continue
            own = hits[some] & (of_list[some] == number)
            ones = np.ones(own.shape)
            found = ranking_metrics(own, ones, counts[some], np.ones(int(counts.sum())), ks)
            sums = self.sums.setdefault(name, {})
            for metric, values in found.items():
                if metric.partition("@")[0] in _METRICS:
                    sums.setdefault(metric, ExactSum()).add(values.sum())

    def merge(self, other: SliceSums) -> None:
        """Adds the sums over other users."""
        for name, sums in other.sums.items():
            for metric, value in sums.items():
                self.sums.setdefault(name, {}).setdefault(metric, ExactSum()).merge(value)
        for k, counts in other.shown.items():
            self.shown[k] = self.shown.get(k, 0) + counts
        self.users = self.users + other.users
        self.heldout = self.heldout + other.heldout

    def result(self) -> dict[str, dict[str, float]]:
        """Returns slice → its figures.

        They are ``items``, ``heldout`` (rows) and ``users`` with such rows, averages over these users of ndcg@k and
        recall@k, and ``listed@k``, the share of all recommended items. A slice without held-out rows has no averages.
        """
        found: dict[str, dict[str, float]] = {}
        for number, name in enumerate(SLICES):
            one: dict[str, float] = {
                "items": int(self.items[number]),
                "heldout": int(self.heldout[number]),
                "users": int(self.users[number]),
            }
            one |= {metric: float(value) / self.users[number] for metric, value in self.sums.get(name, {}).items()}
            one |= {f"listed@{k}": float(of[number] / max(of.sum(), 1)) for k, of in self.shown.items()}
            found[name] = one
        return found
