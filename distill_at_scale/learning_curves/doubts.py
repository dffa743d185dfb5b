"""Signs that a learning curve follows no law, so that its forecast is to be doubted."""

from __future__ import annotations

import numpy as np

from distill_at_scale.learning_curves.ensemble import Ensemble
from distill_at_scale.learning_curves.measured import Measured

GOOD_RUNGS = 4
"""Rungs from which a forecast by a model's own rungs can be checked on at least one."""
_FALL = 2.0
"""A decrease of this many standard errors counts as more than noise."""
_COUNTS = 0.1
"""Weight from which a form has a say."""
_APART = 0.25
"""Relative distance of two such forms on all rows that is too large."""
_UNLIKE = 0.25
"""Difference of ln quality above which forecasts from a tenth of the rows were off by a quarter in the median."""


def doubt(measured: Measured, ensemble: Ensemble, apart: float = 0.0) -> str:
    """Why a curve is not law-like, as one sentence; "" if it is.

    Args:
        measured: The rungs.
        ensemble: The forms fitted to them.
        apart: Difference of ln quality on all rows between what the rungs tell and what other logs taught.
    """
    reasons = (_few(measured), _falls(measured), _disagree(measured, ensemble), _unlike(apart))
    found = [reason for reason in reasons if reason]
    return f"The curve of {measured.model} is not law-like: {'; '.join(found)}." if found else ""


def _few(measured: Measured) -> str:
    # A personalised model grows as other logs say, and its rungs are compared with that.
    n = len(measured.shares)
    return f"{n} rungs are too few to hold one back" if n < GOOD_RUNGS and not measured.personal else ""


def _falls(measured: Measured) -> str:
    """A larger sample that does worse, by more than seeds and users explain."""
    steps = np.diff(measured.quality, axis=1)
    n_seeds = len(steps)
    variance = np.zeros(steps.shape[1])
    if measured.resampled is not None:
        variance += np.diff(measured.resampled, axis=1).mean(0).var(axis=1, ddof=1)
    if n_seeds > 1:
        # Few seeds: one variance for all steps.
        variance += float(steps.var(axis=0, ddof=1).mean()) / n_seeds
    fall = steps.mean(0)
    worst = int(np.argmin(fall + _FALL * np.sqrt(variance)))
    if fall[worst] >= -_FALL * np.sqrt(variance[worst]) - 1e-12:
        return ""
    before, after = (100 * float(measured.shares[k]) for k in (worst, worst + 1))
    return f"quality falls from {before:.3g} % to {after:.3g} % of the rows, beyond noise"


def _unlike(apart: float) -> str:
    return (
        f"it rises unlike those of other logs ({100 * np.expm1(apart):.0f} % apart on all rows)"
        if apart > _UNLIKE
        else ""
    )


def _disagree(measured: Measured, ensemble: Ensemble) -> str:
    """Forms that fit alike, and say other things about all rows."""
    ends = ensemble.by_form(np.array([1.0]))[:, : len(measured.quality), 0].mean(1)
    counted = ensemble.weights >= _COUNTS
    low, high = float(ends[counted].min()), float(ends[counted].max())
    if high - low <= _APART * max(float(ensemble.weights @ ends), 1e-9):
        return ""
    names = [one.form.name for one in ensemble.fitted]
    lowest, highest = (names[int(np.flatnonzero(counted)[k])] for k in (ends[counted].argmin(), ends[counted].argmax()))
    return f"forms that fit it alike disagree, from {low:.3g} ({lowest}) to {high:.3g} ({highest}) on all rows"
