"""Thresholds that meet budgets exactly, found over many shards by histograms that can be summed.

A budget is a number of rows. Each round counts the units of each shard in the same bins and narrows the end of the
budget to one bin; once few units remain in it, they are compared one by one. Each shard sends a histogram per round
and, at the end, those few units. Bins cannot separate units with equal key and tie, which fill one bin; each histogram
therefore includes the range of its fullest bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.data.ordering import order_by
from distill_at_scale.samplers.scores import LAST, Scores, Threshold

_BITS = 12
BINS = 1 << _BITS
FEW = 1 << 18
"""Number of units that are compared one by one (6 MiB)."""


@dataclass(frozen=True)
class Span:
    """A range in the order by (key, tie) in which a budget ends.

    Attributes:
        low, high: First and last key.
        tie_low, tie_high: First and last tie; the whole range while ``low < high``.
        before: Number of rows of all units before the range.
        units, rows: Number of units and rows inside; −1 while unknown.
    """

    low: int = 0
    high: int = LAST
    tie_low: int = 0
    tie_high: int = LAST
    before: int = 0
    units: int = -1
    rows: int = -1

    @property
    def is_point(self) -> bool:
        """Whether all units inside have the same key and tie."""
        return self.low == self.high and self.tie_low == self.tie_high

    @property
    def is_narrow(self) -> bool:
        """Whether the range is narrow enough to compare its units one by one."""
        return self.is_point or 0 <= self.units <= FEW

    @property
    def _bounds(self) -> tuple[int, int]:
        return (self.low, self.high) if self.low < self.high else (self.tie_low, self.tie_high)

    @property
    def shift(self) -> int:
        """Width of a bin in bits, so that ``BINS`` bins cover the range."""
        first, last = self._bounds
        return max(0, (last - first).bit_length() - _BITS)


@dataclass(frozen=True)
class Histogram:
    """Counts of a shard's units in the bins of a span.

    Attributes:
        counts: int64 [2, BINS], units and their rows in each bin.
        fullest: Index of the bin with the most units.
        edges: First and last key, first and last tie of the units in that bin; 0 without units.
    """

    counts: np.ndarray
    fullest: int
    edges: tuple[int, int, int, int]


def _inside(scores: Scores, span: Span) -> np.ndarray:
    """Returns the positions, int64, of the units inside a span."""
    first, last = span._bounds
    # Smaller values wrap around to beyond the last.
    if span.low < span.high:
        return np.flatnonzero(scores.keys - np.uint64(first) <= np.uint64(last - first))
    inside = np.flatnonzero(scores.keys == np.uint64(span.low))
    return inside[scores.ties.take(inside) - np.uint64(first) <= np.uint64(last - first)]


def histogram(scores: Scores, span: Span) -> Histogram:
    """Counts the units of ``span`` by key, or by tie if it has a single key."""
    keys, ties, rows = scores.keys, scores.ties, scores.rows
    if span != Span():
        inside = _inside(scores, span)
        keys, ties, rows = keys.take(inside), ties.take(inside), None if rows is None else rows.take(inside)
    values = keys if span.low < span.high else ties
    # Bins are far fewer than 2^63, and bincount requires signed integers.
    bins = ((values - np.uint64(span._bounds[0])) >> np.uint64(span.shift)).view(np.int64)
    units = np.bincount(bins, minlength=BINS)
    # Float sums of integers are exact below 2^53 rows.
    of_rows = units if rows is None else np.bincount(bins, weights=rows, minlength=BINS)
    fullest, edges = int(units.argmax()), (0, 0, 0, 0)
    if len(bins):
        members = np.flatnonzero(bins == fullest)
        keys, ties = keys.take(members), ties.take(members)
        edges = (int(keys.min()), int(keys.max()), int(ties.min()), int(ties.max()))
    return Histogram(np.stack([units, of_rows]).astype(np.int64), fullest, edges)


def narrow_span(span: Span, shards: Sequence[Histogram], target: int) -> Span:
    """Returns the bin of ``span`` in which ``target`` rows are reached, given all shards' histograms.

    If that bin is the fullest in all shards that have units in it, the result extends only from its first unit to its
    last: a point if all of them are equal.
    """
    units, rows = np.sum([shard.counts for shard in shards], axis=0)
    ends = span.before + np.cumsum(rows)
    bin_ = min(int(np.searchsorted(ends, target, side="left")), int(np.flatnonzero(units)[-1]))
    before = int(ends[bin_ - 1]) if bin_ else span.before
    first, last = span._bounds
    low = first + (bin_ << span.shift)
    high = min(last, low + (1 << span.shift) - 1)
    tie_low, tie_high = 0, LAST
    if span.low == span.high:
        low, high, tie_low, tie_high = span.low, span.high, low, high
    occupied = [shard for shard in shards if shard.counts[0][bin_]]
    if all(shard.fullest == bin_ for shard in occupied):
        low, high = min(shard.edges[0] for shard in occupied), max(shard.edges[1] for shard in occupied)
        if low == high:
            tie_low, tie_high = min(shard.edges[2] for shard in occupied), max(shard.edges[3] for shard in occupied)
    return Span(low, high, tie_low, tie_high, before, int(units[bin_]), int(rows[bin_]))


def candidates(scores: Scores, span: Span) -> np.ndarray:
    """Returns key, tie and rows of the units inside a span, uint64 [3, groups]; units with equal key and tie are one
    group."""
    inside = _inside(scores, span)
    keys, ties = scores.keys.take(inside), scores.ties.take(inside)
    rows = np.ones(len(keys), dtype=np.uint64) if scores.rows is None else scores.rows.take(inside).astype(np.uint64)
    return _grouped(np.stack([keys, ties, rows]))


def _grouped(units: np.ndarray) -> np.ndarray:
    """Sorts units by (key, tie) and sums the rows of equal ones."""
    keys, ties, rows = units[:, order_by(units[0], units[1])]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]) | (ties[1:] != ties[:-1])
    starts = np.flatnonzero(first)
    return np.stack([keys[first], ties[first], np.add.reduceat(rows, starts) if len(starts) else rows])


def settle(span: Span, units: Sequence[np.ndarray], target: int) -> Threshold | None:
    """Returns the threshold whose number of rows is closest to ``target`` (of two as close, the smaller).

    Args:
        span: Range in which the budget ends.
        units: :func:`candidates` of every shard; may be empty if the span is a point.
        target: Number of rows wanted.

    Returns:
        The threshold, or None if keeping nothing is closest.
    """
    if span.is_point:
        groups = np.array([[span.low], [span.tie_low], [span.rows]], dtype=np.uint64)
    else:
        groups = _grouped(np.concatenate(list(units), axis=1))
    ends = span.before + np.cumsum(groups[2].astype(np.int64))
    last = min(int(np.searchsorted(ends, target, side="left")), len(ends) - 1)
    below = int(ends[last - 1]) if last else span.before
    nearer = target - below - abs(int(ends[last]) - target)
    if nearer > 0 or (nearer == 0 and below == 0):
        return Threshold(int(groups[0][last]), int(groups[1][last]), int(ends[last]))
    if below == 0:
        return None
    if last:
        return Threshold(int(groups[0][last - 1]), int(groups[1][last - 1]), below)
    # Everything before the span: the largest (key, tie) below its first.
    first = int(groups[0][0]), int(groups[1][0])
    return Threshold(first[0], first[1] - 1, below) if first[1] else Threshold(first[0] - 1, LAST, below)


def target_rows(budget: float, n_rows: int) -> int:
    """Returns the number of ``n_rows`` train rows that a budget keeps, rounded to the nearest integer."""
    return int(budget * n_rows + 0.5)
