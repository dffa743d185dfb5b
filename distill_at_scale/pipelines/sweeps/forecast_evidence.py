"""What a forecast says about samples of random users: the share of the quality that they keep, at any budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distill_at_scale.genie.probability import NEW_SAMPLE, Z
from distill_at_scale.pipelines.sweeps.forecast_result import ForecastResult, ModelForecast

_LEAST = 1e-9
_STEPS = 400


@dataclass(frozen=True)
class ForecastEvidence:
    """What random users keep, by a forecast; means over its models.

    Attributes:
        result: The forecast.
    """

    result: ForecastResult

    @property
    def models(self) -> list[str]:
        """Models of the forecast."""
        return sorted(one.model for one in self.result.models)

    @property
    def least(self) -> float:
        """The smallest budget of which it says something: quality is not extrapolated below the smallest samples."""
        return max(one.curve[0].share for one in self.result.models)

    def kept(self, budget: float) -> tuple[float, float]:
        """Returns the share that is kept at a budget of :attr:`least` or more, and its standard deviation.

        The models' errors are taken as equal: they have the samples, the users and most of a slope in common.
        """
        found = [_kept(one, budget) for one in self.result.models]
        kept, deviation = (float(np.mean(values)) for values in zip(*found))
        return kept, math.hypot(deviation, NEW_SAMPLE * (1 - budget))


def _kept(one: ModelForecast, budget: float) -> tuple[float, float]:
    shares, quality = (np.array([getattr(point, name) for point in one.curve]) for name in ("share", "quality"))
    grid = np.geomspace(shares[0], 1.0, _STEPS)
    curve = np.interp(np.log(grid), np.log(shares), quality) / max(one.quality, _LEAST)
    kept = float(np.interp(np.log(budget), np.log(grid), curve))
    # A quality on all rows that is wrong by a factor is one of a slope: what lies nearer to all rows is less wrong.
    end = math.log(max(one.high, _LEAST) / max(one.low, _LEAST)) / (2 * Z)
    last = one.rungs[-1].share
    left = 1.0 - math.log(max(budget / last, 1.0)) / max(-math.log(last), _LEAST)
    return kept, kept * end * min(max(left, 0.0), 1.0)
