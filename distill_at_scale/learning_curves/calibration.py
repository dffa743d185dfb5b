"""What forecasts of real logs taught: how curves grow, weights of the forms, and factors by which intervals hold.

`calibration.json` is made by the command that it names, from logs whose fits on all rows are known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from distill_at_scale.learning_curves.growth import Growth

FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Constants of forecasts.

    Attributes:
        prior: Weight of each form before a curve is seen.
        drift: Relative standard deviation of what is extrapolated by a factor e of the rows, before it is widened.
        largest: float64 [n], largest rungs, ascending shares of the train rows.
        factors: float64 [n], the factor of the half-width for forecasts from each of these.
        growth: How fast personalised models grow; None if only the rungs of a log tell.
        rise: Standard deviation of the rise beyond the largest rung (of ln quality), as a share of it, before it is
            widened.
    """

    prior: dict[str, float]
    drift: float
    largest: np.ndarray
    factors: np.ndarray
    growth: Growth | None = None
    rise: float = 0.0

    def factor(self, largest: float) -> float:
        """Factor for forecasts from rungs up to a share; between those that were measured by the logarithm."""
        return float(np.interp(np.log(largest), np.log(self.largest), self.factors))


def uncalibrated(prior: dict[str, float]) -> Calibration:
    """No widening at all: what a calibration is measured with."""
    return Calibration(prior, 0.0, np.array([1.0]), np.array([1.0]))


def packaged() -> Calibration:
    """The calibration that comes with the package."""
    found = json.loads(resources.files(__package__).joinpath(FILE).read_text("utf-8"))
    steps = sorted(found["factors"], key=lambda step: float(step["up_to"]))
    return Calibration(
        prior={str(name): float(weight) for name, weight in found["prior"].items()},
        drift=float(found["drift"]),
        largest=np.array([float(step["up_to"]) for step in steps]),
        factors=np.array([float(step["factor"]) for step in steps]),
        growth=Growth(**found["growth"]),
        rise=float(found["rise"]),
    )
