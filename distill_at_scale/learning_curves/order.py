"""How far the forecast order of models can be trusted: Kendall's τ with the order on all rows, as expected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.learning_curves.forecast import Forecast

_DRAWS = 2000


def expected_tau(forecasts: Sequence[Forecast]) -> tuple[float, float, float] | None:
    """Kendall's τ between the forecast order and that on all rows: its expectation and 90 % interval,
    which holds the expectation.

    Each model's quality is drawn from its interval. Resampled users are the same for all models, so a change that
    is common to two models does not swap them.

    Returns:
        (expected, low, high); None for fewer than two models.
    """
    if len(forecasts) < 2:
        return None
    centres = np.array([one.at_all[0] for one in forecasts])
    rng = np.random.default_rng(hashing.stream("learning_curves/order"))
    own, shared = (np.stack(parts) for parts in zip(*(one.deviations() for one in forecasts)))
    users = shared[:, rng.integers(shared.shape[1], size=_DRAWS)] if shared.shape[1] else 0.0
    drawn = centres[:, None] + users + own[:, None] * rng.standard_normal((len(forecasts), _DRAWS))
    pairs = list(combinations(range(len(forecasts)), 2))
    agree = [np.sign(centres[a] - centres[b]) * np.sign(drawn[a] - drawn[b]) for a, b in pairs]
    taus = np.mean(agree, axis=0)
    low, high = np.quantile(taus, (0.05, 0.95))
    # Where fewer than 5 % of the draws swap models, the quantiles do not hold the mean.
    expected = taus.mean()
    return float(expected), float(min(low, expected)), float(max(high, expected))
