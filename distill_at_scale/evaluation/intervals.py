"""90 % intervals of a mean over seeds: what other users and other seeds would change.

Two things make an average differ next time. Its users are a sample: the bootstrap over users tells how much that is
worth, V_u. And a seed draws one of many small datasets and initialisations: s², the variance between the seeds, tells
that. The interval is estimate ± t √(V_u + s²/k) for the method's mean, and ± t √(V_u + s²(1 + 1/k)) for one new sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
_MIXING = 0.9


@dataclass(frozen=True)
class Spread:
    """How far a mean over k seeds may be from what it estimates.

    Attributes:
        mean: over the seeds.
        users: V_u, variance of ``mean`` over other users.
        seeds: s², variance between single seeds; None for one seed, which does not tell it.
        n_seeds: k.
        n_resamples: of the bootstrap.
    """

    mean: float
    users: float
    seeds: float | None
    n_seeds: int
    n_resamples: int

    @property
    def of_mean(self) -> tuple[float, float]:
        """Interval of the mean that ever more seeds would tend to. With one seed: over users only."""
        return self._around((self.seeds or 0.0) / self.n_seeds)

    @property
    def of_new(self) -> tuple[float, float] | None:
        """Interval of one new sample, made and trained on with a seed that has not been used; None for one seed."""
        return None if self.seeds is None else self._around(self.seeds * (1.0 + 1.0 / self.n_seeds))

    def _around(self, between_seeds: float) -> tuple[float, float]:
        variance = self.users + between_seeds
        half = _t_quantile(self.users, between_seeds, self.n_resamples, self.n_seeds) * variance**0.5
        return self.mean - half, self.mean + half


def spread(values: Sequence[float], resampled: np.ndarray) -> Spread | None:
    """Splits what a mean over seeds varies by into users and seeds.

    Args:
        values: [k], one for each seed, over all users.
        resampled: float64 [k, n], the same over n resamples of the users; column b has the same users for all seeds.
            Columns with NaN are left out.

    Returns:
        None where fewer than two resamples tell anything, or a value is not finite.
    """
    points = np.asarray(values, dtype=np.float64)
    resampled = resampled[:, np.isfinite(resampled).all(0)]
    k, n = resampled.shape
    if n < 2 or not np.isfinite(points).all():
        return None
    users = float(resampled.mean(0).var(ddof=1))
    if k == 1:
        return Spread(float(points[0]), users, None, 1, n)
    # A seed does well with some users and not with others. That differs from seed to seed and so is part of s²
    # already: what it adds to the bootstrap's variance of the mean would count twice.
    centred = resampled - resampled.mean(1, keepdims=True)
    own = float(centred.var(0, ddof=1).mean()) * n / (n - 1)
    return Spread(float(points.mean()), max(users - own / k, 0.0), float(points.var(ddof=1)), k, n)


def _t_quantile(users: float, seeds: float, n_resamples: int, n_seeds: int) -> float:
    """Quantile of Student's t for the sum of two estimated variances, of n_resamples - 1 and n_seeds - 1 degrees.

    Where the seeds are all of the variance it is t_{k-1}, where the users are, about the normal one. In between
    Satterthwaite's degrees of freedom, 1/ν = Σ share²/ν_i, are too many with two seeds (83 % of 90 % hold), and t_{k-1}
    far too few (100 %). Shares to the power 0.9 hold 87 to 93 % for any proportion of the two variances and any number
    of seeds from 2; jobs/bench_intervals.py shows it.
    """
    from scipy.special import stdtrit  # takes a moment to load, and the command line's help reads this module

    total = users + seeds
    if total <= 0 or n_seeds < 2:
        degrees = n_resamples - 1.0
    else:
        share = seeds / total
        degrees = 1.0 / (share**_MIXING / (n_seeds - 1) + (1.0 - share) ** _MIXING / (n_resamples - 1))
    return float(stdtrit(degrees, 0.5 + LEVEL / 2))
