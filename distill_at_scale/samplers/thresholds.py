"""Thresholds that meet budgets exactly, found over many shards by histograms that add up.

A budget asks for a number of rows. Every round counts the units of each shard in the same bins and narrows the
place where the budget ends down to one bin; once few units are left there they are looked at one by one. What
moves is a histogram a shard and, at the end, those few. Many units with the same key and tie, which no bins would
part, make their bin the fullest one: what that one spans is told with the histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.samplers.scores import LAST, Scores, Threshold

_BITS = 12
BINS = 1 << _BITS
FEW = 1 << 18
"""Units that are worth looking at one by one: 6 MiB."""


@dataclass(frozen=True)
class Span:
    """A run of the order by (key, tie) in which a budget ends.

    Attributes:
        low, high: first and last key.
        tie_low, tie_high: first and last tie; the whole range while ``low < high``.
        before: rows of all units that come before it.
        units, rows: inside it; −1 while unknown.
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
        """Whether another histogram is not worth it."""
        return self.is_point or 0 <= self.units <= FEW

    @property
    def _bounds(self) -> tuple[int, int]:
        return (self.low, self.high) if self.low < self.high else (self.tie_low, self.tie_high)

    @property
    def shift(self) -> int:
        """Bits of a bin, so that ``BINS`` of them cover the span."""
        first, last = self._bounds
        return max(0, (last - first).bit_length() - _BITS)


@dataclass(frozen=True)
class Histogram:
    """A shard's units in the bins of a span.

    Attributes:
        counts: int64 [2, BINS], units and their rows in each bin.
        fullest: the bin with the most units.
        edges: of the units in that bin the first and last key, the first and last tie; those of nothing are 0.
    """

    counts: np.ndarray
    fullest: int
    edges: tuple[int, int, int, int]


def _inside(scores: Scores, span: Span) -> np.ndarray:
    """int64: positions of the units inside a span."""
    first, last = span._bounds
    # What comes before the first wraps around to beyond the last.
    if span.low < span.high:
        return np.flatnonzero(scores.keys - np.uint64(first) <= np.uint64(last - first))
    inside = np.flatnonzero(scores.keys == np.uint64(span.low))
    return inside[scores.ties.take(inside) - np.uint64(first) <= np.uint64(last - first)]


def histogram(scores: Scores, span: Span) -> Histogram:
    """The units of ``span`` by key, or by tie when it has one key."""
    keys, ties, rows = scores.keys, scores.ties, scores.rows
    if span != Span():
        inside = _inside(scores, span)
        keys, ties, rows = keys.take(inside), ties.take(inside), None if rows is None else rows.take(inside)
    values = keys if span.low < span.high else ties
    # Bins are far fewer than 2^63, and signed integers are what bincount takes.
    bins = ((values - np.uint64(span._bounds[0])) >> np.uint64(span.shift)).view(np.int64)
    units = np.bincount(bins, minlength=BINS)
    # Sums of whole numbers as floats are exact below 2^53 rows.
    of_rows = units if rows is None else np.bincount(bins, weights=rows, minlength=BINS)
    fullest, edges = int(units.argmax()), (0, 0, 0, 0)
    if len(bins):
        there = np.flatnonzero(bins == fullest)
        keys, ties = keys.take(there), ties.take(there)
        edges = (int(keys.min()), int(keys.max()), int(ties.min()), int(ties.max()))
    return Histogram(np.stack([units, of_rows]).astype(np.int64), fullest, edges)


def narrow(span: Span, shards: Sequence[Histogram], target: int) -> Span:
    """The bin of ``span`` in which ``target`` rows are reached, given all shards' histograms.

    Where that bin is the fullest of all shards that have units there, the span is no longer than from its first unit
    to its last: a point when all of them are the same.
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
    there = [shard for shard in shards if shard.counts[0][bin_]]
    if all(shard.fullest == bin_ for shard in there):
        low, high = min(shard.edges[0] for shard in there), max(shard.edges[1] for shard in there)
        if low == high:
            tie_low, tie_high = min(shard.edges[2] for shard in there), max(shard.edges[3] for shard in there)
    return Span(low, high, tie_low, tie_high, before, int(units[bin_]), int(rows[bin_]))


def candidates(scores: Scores, span: Span) -> np.ndarray:
    """uint64 [3, groups]: key, tie and rows of the units inside a span, those with equal key and tie as one."""
    inside = _inside(scores, span)
    keys, ties = scores.keys.take(inside), scores.ties.take(inside)
    rows = np.ones(len(keys), dtype=np.uint64) if scores.rows is None else scores.rows.take(inside).astype(np.uint64)
    return _grouped(np.stack([keys, ties, rows]))


def _grouped(units: np.ndarray) -> np.ndarray:
    """Sorted by (key, tie), equal ones added up."""
    keys, ties, rows = units[:, np.lexsort((units[1], units[0]))]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]) | (ties[1:] != ties[:-1])
    starts = np.flatnonzero(first)
    return np.stack([keys[first], ties[first], np.add.reduceat(rows, starts) if len(starts) else rows])


def settle(span: Span, found: Sequence[np.ndarray], target: int) -> Threshold | None:
    """The threshold whose rows come nearest to ``target`` (of two as near, the smaller); None if it keeps nothing.

    Args:
        span: where the budget ends.
        found: the candidates of every shard; not needed (empty) when the span is a point.
        target: rows wanted.

    Returns:
        None when keeping nothing comes nearest.
    """
    if span.is_point:
        groups = np.array([[span.low], [span.tie_low], [span.rows]], dtype=np.uint64)
    else:
        groups = _grouped(np.concatenate(list(found), axis=1))
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
    """How many of ``n_rows`` train rows a budget asks for, to the nearest."""
    return int(budget * n_rows + 0.5)
