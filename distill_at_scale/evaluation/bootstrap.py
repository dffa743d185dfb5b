"""Uncertainty of averages over users: a streaming, mergeable bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator

from distill_at_scale.data import hashing
from distill_at_scale.evaluation.exact_sum import ExactSum

N_RESAMPLES = 100
# Cumulative probabilities of 0, 1, 2, … for a Poisson variable of mean 1; the mass beyond 15 is below 1e-13.
_POISSON = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(16)])


def resample_weights(users: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Returns how often each user is drawn in each resample, int64 [users, n_resamples], Poisson with mean 1.

    Weights are a hash of seed, user and resample, so a user has the same weights in every evaluation: averages of two
    models over the same users can be compared resample by resample.

    Args:
        users: int64 [n], user numbers.
        n_resamples: Number of resamples.
        seed: Seed of the weights.
    """
    resamples = np.arange(n_resamples, dtype=np.uint64)
    begin = hashing.stream("bootstrap/weights", seed)
    hashes = hashing.combine(begin, users.astype(np.uint64)[:, None], resamples[None, :])
    return np.searchsorted(_POISSON, hashing.uniform(hashes), side="right")


Resampled = dict[str, list[Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]]]
"""Metric -> its average over each resample, in a record; NaN, null in JSON, for a resample without users, as of a few
users some are."""


@dataclass
class UserBootstrap:
    """Means of metrics over resampled users; the state is one number per resample and metric.

    Source: Chamandy, Muralidharan, Najmi, Naidu, "Estimating uncertainty for massive data streams" (2012): Poisson
    weights replace drawing n of n, which would require n.

    Attributes:
        seed: Seed of the weights.
        n_resamples: Number of resamples.
        sums: metric -> sum of arrays [n_resamples], weighted sums of values.
        weights: float64 [n_resamples], sums of weights.
    """

    seed: int = 0
    n_resamples: int = N_RESAMPLES
    sums: dict[str, ExactSum] = field(default_factory=dict)
    weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.weights = np.zeros(self.n_resamples)

    def add(self, users: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Adds users with their values [n] of each metric."""
        drawn = resample_weights(users, self.n_resamples, self.seed)
        for metric, of_users in values.items():
            self.sums.setdefault(metric, ExactSum()).add(of_users @ drawn)
        self.weights = self.weights + drawn.sum(0)

    def merge(self, other: UserBootstrap) -> None:
        """Adds the sums of another bootstrap over other users."""
        for metric, sums in other.sums.items():
            self.sums.setdefault(metric, ExactSum()).merge(sums)
        self.weights = self.weights + other.weights

    def means(self) -> dict[str, np.ndarray]:
        """Returns metric -> float64 [n_resamples], the average over each resample; NaN for a resample without users."""
        with np.errstate(invalid="ignore"):
            return {metric: sums.value() / self.weights for metric, sums in self.sums.items()}

    def rounded_means(self) -> dict[str, list[float]]:
        """Returns the means with six significant digits, for storage."""
        return {metric: [float(f"{value:.6g}") for value in values] for metric, values in self.means().items()}
