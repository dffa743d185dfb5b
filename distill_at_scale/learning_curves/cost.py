"""What a fit on all rows would cost, from fits on samples: c(p) = a + b p^γ CPU-seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_POWERS = np.linspace(0.0, 3.0, 61)
"""γ: 0 of a fixed cost; 1 of passes over the rows; 3 of a solve in the users."""
_LEAST_S = 0.01
"""Differences of shorter fits are not measured well."""
_TIMING = 0.02
"""Relative error of a mean of timings that says nothing."""
_TINY = 1e-12


@dataclass(frozen=True)
class Cost:
    """The cost of fits by the share of the train rows.

    Attributes:
        fixed, scale, power: a, b, γ.
        low, high: CPU-seconds of a fit on all rows by the laws that fit nearly as well.
    """

    fixed: float
    scale: float
    power: float
    low: float
    high: float

    def at(self, share: float) -> float:
        """CPU-seconds of a fit on a share of the rows."""
        return float(self.fixed + self.scale * share**self.power)


def cost_law(shares: np.ndarray, seconds: np.ndarray) -> Cost:
    """Fits the law by least squares of relative errors, with a, b ≥ 0.

    Args:
        shares: float64 [rungs], ascending shares of the train rows.
        seconds: float64 [seeds, rungs], CPU-seconds.
    """
    mean = seconds.mean(0)
    weights = 1.0 / np.maximum(mean, _LEAST_S)
    found = []
    for power in _POWERS:
        fixed, scale = _non_negative(np.stack([weights, weights * shares**power], axis=1), weights * mean)
        error = float(np.square(weights * (fixed + scale * shares**power - mean)).mean())
        found.append((error, fixed, scale, float(power)))
    best = min(found)[0]
    # The noise of single timings, some percent, does not tell these laws apart; of them the one nearest to a pass over
    # the rows is told.
    near = [law for law in found if law[0] <= best + max(best, _TIMING**2)]
    _, fixed, scale, power = min(near, key=lambda law: abs(law[3] - 1.0))
    return Cost(fixed, scale, power, min(law[1] + law[2] for law in near), max(law[1] + law[2] for law in near))


def _non_negative(matrix: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """a, b ≥ 0 that minimise ‖matrix (a, b)ᵀ − target‖."""
    a, b = np.linalg.lstsq(matrix, target)[0]
    if a >= 0 and b >= 0:
        return float(a), float(b)
    alone = [max(float(column @ target / max(column @ column, _TINY)), 0.0) for column in matrix.T]
    errors = [float(np.square(k * column - target).sum()) for k, column in zip(alone, matrix.T)]
    return (alone[0], 0.0) if errors[0] <= errors[1] else (0.0, alone[1])
