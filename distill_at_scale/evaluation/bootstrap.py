"""How much would an average over users change with other users? A bootstrap that streams and merges."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.data import hashing

N_RESAMPLES = 100
# The chances of 0, 1, 2, … of a Poisson variable of mean 1, summed; what is beyond 15 is below 1e-13.
_POISSON = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(16)])


def resample_weights(users: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """int64 [users, n_resamples]: how often each user is drawn in each resample, Poisson with mean 1.

    The draws are a hash of seed, user and resample, so that a user weighs the same wherever the user is met: averages
    of two models over the same users can be compared resample by resample.

    Args:
        users: int64 [n], numbers of users.
    """
    resamples = np.arange(n_resamples, dtype=np.uint64)
    begin = hashing.stream("bootstrap/weights", seed)
    hashes = hashing.combine(begin, users.astype(np.uint64)[:, None], resamples[None, :])
    return np.searchsorted(_POISSON, hashing.uniform(hashes), side="right")


@dataclass
class UserBootstrap:
    """Means of metrics over resampled users; the state is one number a resample and metric.

    Source: Chamandy, Muralidharan, Najmi, Naidu, "Estimating uncertainty for massive data streams" (2012): Poisson
    weights take the place of drawing n of n, which needs to know n.

    Attributes:
        seed: of the weights.
        n_resamples: how many.
        sums: metric -> float64 [n_resamples], of weighted values.
        weights: float64 [n_resamples], of weights.
    """

    seed: int = 0
    n_resamples: int = N_RESAMPLES
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.weights = np.zeros(self.n_resamples)

    def add(self, users: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Counts users in, each with the values [n] of the metrics."""
        drawn = resample_weights(users, self.n_resamples, self.seed)
        for metric, of_users in values.items():
            self.sums[metric] = self.sums.get(metric, 0.0) + of_users @ drawn
        self.weights += drawn.sum(0)

    def merge(self, other: UserBootstrap) -> None:
        """Adds what was counted of other users."""
        for metric, sums in other.sums.items():
            self.sums[metric] = self.sums.get(metric, 0.0) + sums
        self.weights += other.weights

    def means(self) -> dict[str, np.ndarray]:
        """metric -> float64 [n_resamples]: its average over each resample; NaN where that drew nobody."""
        with np.errstate(invalid="ignore"):
            return {metric: sums / self.weights for metric, sums in self.sums.items()}

    def rounded_means(self) -> dict[str, list[float]]:
        """The same with six digits, to be written down."""
        return {metric: [float(f"{value:.6g}") for value in values] for metric, values in self.means().items()}
