"""Conformal prediction intervals, from the residuals on datasets that the model was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
_FLOOR = 1e-6


@dataclass(frozen=True)
class Widths:
    """Half-widths of the intervals by budget, interpolated linearly in log(budget).

    Attributes:
        log_budgets: float64 [b], ascending.
        halves: float64 [b].
    """

    log_budgets: np.ndarray
    halves: np.ndarray

    def at(self, log_budget: np.ndarray) -> np.ndarray:
        """Returns the half-widths, float64, in the shape of ``log_budget``."""
        return np.interp(log_budget, self.log_budgets, self.halves)


def widths(residual: np.ndarray, log_budget: np.ndarray, groups: np.ndarray, level: float = LEVEL) -> Widths:
    """Computes split-conformal half-widths from residuals of out-of-fold predictions.

    Each residual is divided by the mean absolute residual at its budget. Cells of one group of datasets are correlated,
    so every group has the same weight, and the finite-sample correction counts groups, not cells.

    Source: Dunn, Wasserman, Ramdas, "Distribution-free prediction sets for two-layer hierarchical models" (JASA 2023),
    pooling; Papadopoulos et al. (2002) for normalised residuals.

    Args:
        residual: float64 [n], target minus the prediction of a model that was not trained on the cell's group.
        log_budget: float64 [n].
        groups: [n], group label of each cell.
        level: Share of a new group's cells that the intervals should cover.
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
