"""Sums of floating-point numbers that are the same in whatever order and groups they are added."""

from __future__ import annotations

import numpy as np

# Powers of two: a multiple of one, divided by it, is an integer.
_GRIDS = (1.0, 2.0**-26, 2.0**-52)


class ExactSum:
    """The sum of float64 numbers, or of arrays of one shape, that does not depend on order or grouping.

    Every number is split into multiples of 1, 2^-26 and 2^-52, whose sums do not round as long as the sum stays below
    2^53 and fewer than 2^26 numbers are added; what is below 2^-53 is dropped.

    Source: Demmel, Nguyen, "Parallel reproducible summation" (2015), with fixed bins.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[np.ndarray | np.float64] = [np.float64(0.0)] * len(_GRIDS)

    def add(self, values: np.ndarray | float) -> None:
        """Adds a number, or an array elementwise."""
        rest = np.asarray(values, dtype=np.float64)
        for k, grid in enumerate(_GRIDS):
            part = np.rint(rest / grid) * grid
            self._parts[k] = self._parts[k] + part
            rest = rest - part

    def merge(self, other: ExactSum) -> None:
        """Adds another sum."""
        self._parts = [mine + theirs for mine, theirs in zip(self._parts, other._parts)]

    def value(self) -> np.ndarray | np.float64:
        """Returns the sum so far; 0 if nothing was added."""
        ones, middle, fine = self._parts
        return (ones + middle) + fine

    def __float__(self) -> float:
        return float(self.value())
