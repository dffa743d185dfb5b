"""Exact quantiles of a column that lies in many parts, by histograms that add up.

Each round counts the values of every part in the same 65,536 bins and narrows each wanted rank down to one bin;
three or four rounds pin the exact value, and only the bins move.
"""

from __future__ import annotations

import numpy as np

BINS = 1 << 16


def bin_width(low: int, high: int) -> int:
    """Width of a bin so that ``BINS`` of them cover low … high."""
    return max(1, -(-(high - low + 1) // BINS))


def histogram(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """int64 [BINS]: how many of ``values`` (int64) fall in each bin of low … high; others are not counted."""
    inside = values[(values >= low) & (values <= high)]
    return np.bincount((inside - low) // bin_width(low, high), minlength=BINS).astype(np.int64)


def narrow(counts: np.ndarray, low: int, high: int, rank: int) -> tuple[int, int, int]:
    """The range of the bin that holds the value of 0-based ``rank`` among those counted, and its rank there."""
    ends = np.cumsum(counts)
    bin_ = int(np.searchsorted(ends, rank, side="right"))
    width = bin_width(low, high)
    start = low + bin_ * width
    return start, min(high, start + width - 1), rank - int(ends[bin_ - 1] if bin_ else 0)
