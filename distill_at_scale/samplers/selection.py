"""Thresholds that meet budgets exactly, found over many shards by histograms that add up.

A budget asks for a number of rows. Every round counts the units of each shard in the same bins and narrows the
place where the budget ends down to one bin; once few units are left there they are looked at one by one. What
moves is a histogram a shard and, at the end, those few.
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


def _inside(scores: Scores, span: Span) -> np.ndarray:
    inside = (scores.keys >= np.uint64(span.low)) & (scores.keys <= np.uint64(span.high))
    if span.low == span.high:
        inside &= (scores.ties >= np.uint64(span.tie_low)) & (scores.ties <= np.uint64(span.tie_high))
    return inside


def histogram(scores: Scores, span: Span) -> np.ndarray:
    """int64 [2, BINS]: units and their rows in each bin of ``span``, by key, or by tie when it has one key."""
    values = scores.keys if span.low < span.high else scores.ties
    first, rows = span._bounds[0], scores.rows
    if span != Span():
        inside = _inside(scores, span)
        values, rows = values[inside], None if rows is None else rows[inside]
    # Bins are far fewer than 2^63, and signed integers are what bincount takes.
    bins = ((values - np.uint64(first)) >> np.uint64(span.shift)).view(np.int64)
    units = np.bincount(bins, minlength=BINS)
    if rows is None:
        return np.stack([units, units]).astype(np.int64)
    # Sums of whole numbers as floats are exact below 2^53 rows.
    return np.stack([units, np.bincount(bins, weights=rows, minlength=BINS)]).astype(np.int64)


def narrow(span: Span, counts: np.ndarray, target: int) -> Span:
    """The bin of ``span`` in which ``target`` rows are reached, given the sum of all shards' histograms."""
    units, rows = counts
    ends = span.before + np.cumsum(rows)
    bin_ = min(int(np.searchsorted(ends, target, side="left")), int(np.flatnonzero(units)[-1]))
    first, last = span._bounds
    low = first + (bin_ << span.shift)
    high = min(last, low + (1 << span.shift) - 1)
    before = int(ends[bin_ - 1]) if bin_ else span.before
    keys = (low, high, 0, LAST) if span.low < span.high else (span.low, span.high, low, high)
    return Span(*keys, before, int(units[bin_]), int(rows[bin_]))


def candidates(scores: Scores, span: Span) -> np.ndarray:
    """uint64 [3, groups]: key, tie and rows of the units inside a span, those with equal key and tie as one."""
    inside = _inside(scores, span)
    keys, ties = scores.keys[inside], scores.ties[inside]
    rows = np.ones(len(keys), dtype=np.uint64) if scores.rows is None else scores.rows[inside].astype(np.uint64)
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
