"""Intervals that hold: how far predictions were off on datasets that the model had not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
_FLOOR = 1e-6


@dataclass(frozen=True)
class Widths:
    """Half the width of an interval at each budget, in between by the logarithm of the budget.

    Attributes:
        log_budgets: float64 [b], ascending.
        halves: float64 [b].
    """

    log_budgets: np.ndarray
    halves: np.ndarray

    def at(self, log_budget: np.ndarray) -> np.ndarray:
        """float64, as ``log_budget``."""
        return np.interp(log_budget, self.log_budgets, self.halves)


def widths(residual: np.ndarray, log_budget: np.ndarray, groups: np.ndarray, level: float = LEVEL) -> Widths:
    """Split-conformal half-widths from residuals of predictions out of fold.

    A residual counts in units of the mean absolute residual at its budget. Cells of one group of datasets are alike,
    so every group weighs the same, and it is groups, not cells, that the correction for their finite number counts.

    Source: Dunn, Wasserman, Ramdas, "Distribution-free prediction sets for two-layer hierarchical models" (JASA 2023),
    pooling; Papadopoulos et al. (2002) for normalised residuals.

    Args:
        residual: float64 [n], target less prediction by a model that did not see the cell's group.
        log_budget: float64 [n].
        groups: [n], anything that tells groups apart.
        level: share of a new group's cells that the intervals hold.
    """
    budgets, place = np.unique(log_budget, return_inverse=True)
    size = np.abs(residual)
    scale = np.maximum(np.bincount(place, size) / np.bincount(place), _FLOOR)
    score = size / scale[place]
    _, group, members = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1 / members[group]
    order = np.argsort(score, kind="stable")
    held = np.cumsum(weight[order]) / weight.sum()
    wanted = min(1.0, level * (1 + 1 / len(members)))
    at = min(int(np.searchsorted(held, wanted - 1e-12)), len(order) - 1)
    return Widths(budgets, score[order][at] * scale)
