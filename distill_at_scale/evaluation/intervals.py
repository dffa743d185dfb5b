"""90 % intervals of a mean over seeds, which cover other users and other seeds.

An average varies for two reasons. Its users are a sample: the bootstrap over users estimates that variance, V_u. And
each seed draws one small dataset and initialisation: s², the variance between seeds, estimates that. The interval is
estimate ± t √(V_u + s²/k) for the method's mean, and ± t √(V_u + s²(1 + 1/k)) for one new sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
_MIXING = 0.9


@dataclass(frozen=True)
class Spread:
    """Estimated variances of a mean over k seeds."""

    mean: float
    """Mean over the seeds."""
    users: float
    """V_u, variance of ``mean`` over other users."""
    seeds: float | None
    """s², variance between single seeds; None for one seed, which does not determine it."""
    n_seeds: int
    """k, the number of seeds."""
    n_resamples: int
    """Number of bootstrap resamples."""

    @property
    def of_mean(self) -> tuple[float, float]:
        """Interval of the mean over arbitrarily many seeds; with one seed, over users only."""
        return self._around((self.seeds or 0.0) / self.n_seeds)

    @property
    def of_new(self) -> tuple[float, float] | None:
        """Interval of one new sample, made and trained on with an unused seed; None for one seed."""
        return None if self.seeds is None else self._around(self.seeds * (1.0 + 1.0 / self.n_seeds))

    def _around(self, between_seeds: float) -> tuple[float, float]:
        variance = self.users + between_seeds
        half = _t_quantile(self.users, between_seeds, self.n_resamples, self.n_seeds) * variance**0.5
        return self.mean - half, self.mean + half


def spread(values: Sequence[float], resampled: np.ndarray) -> Spread | None:
    """Decomposes the variance of a mean over seeds into users and seeds.

    Args:
        values: [k], one value per seed, over all users.
        resampled: float64 [k, n], the same over n resamples of the users; column b has the same users for all seeds.
            Columns with NaN are ignored.

    Returns:
        The variances, or None if fewer than two resamples are valid or a value is not finite.
    """
    points = np.asarray(values, dtype=np.float64)
    resampled = resampled[:, np.isfinite(resampled).all(0)]
    k, n = resampled.shape
    if n < 2 or not np.isfinite(points).all():
        return None
    users = float(resampled.mean(0).var(ddof=1))
    if k == 1:
        return Spread(float(points[0]), users, None, 1, n)
    # A seed suits some users more than others. That interaction differs between seeds and is already part of s²; its
    # contribution to the bootstrap's variance of the mean would count twice.
    centred = resampled - resampled.mean(1, keepdims=True)
    own = float(centred.var(0, ddof=1).mean()) * n / (n - 1)
    return Spread(float(points.mean()), max(users - own / k, 0.0), float(points.var(ddof=1)), k, n)


def _t_quantile(users: float, seeds: float, n_resamples: int, n_seeds: int) -> float:
    """Quantile of Student's t for the sum of two estimated variances, with n_resamples - 1 and n_seeds - 1 degrees.

    If the seeds cause all of the variance it is t_{k-1}; if the users do, about the normal quantile. In between,
    Satterthwaite's degrees of freedom, 1/ν = Σ share²/ν_i, are too many for two seeds (83 % coverage instead of 90 %),
    and t_{k-1} far too few (100 %). Shares raised to the power 0.9 cover 87 to 93 % for any ratio of the two variances
    and any number of seeds from 2; see jobs/bench_intervals.py.
    """
    from scipy.special import stdtrit  # slow to import, and the command line's help imports this module

    total = users + seeds
    if total <= 0 or n_seeds < 2:
        degrees = n_resamples - 1.0
    else:
        share = seeds / total
        degrees = 1.0 / (share**_MIXING / (n_seeds - 1) + (1.0 - share) ** _MIXING / (n_resamples - 1))
    return float(stdtrit(degrees, 0.5 + LEVEL / 2))
