"""Probabilities with which samplers keep units, and the rows' weights 1/p.

A sampler of unequal, known probabilities gives each unit a parameter beside its key; with the threshold of a budget it
determines the unit's probability p. Sums over a sample of rows weighted by 1/p then estimate sums over the dataset
sampled from. The threshold is the key of the last unit kept, so they are too large by about one part in the number of
units kept; that factor is common to all units and vanishes in weights divided by their mean.

Source: Cohen, Kaplan, "Summarizing data using bottom-k sketches" (PODC 2007), rank conditioning; Ting, "Adaptive
threshold sampling" (SIGMOD 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from distill_at_scale.data.ordered_bits import from_ordered_bits
from distill_at_scale.errors import SettingError
from distill_at_scale.samplers.scores import Scores, Threshold

Inclusion = Callable[[np.ndarray, np.uint64], np.ndarray]
"""From the parameters of units, float64 [n], and the key of a threshold to their probabilities, float64 [n]."""


def of_weighted_keys(weights: np.ndarray, key: np.uint64) -> np.ndarray:
    """Returns 1 − exp(−w t): the probability that −ln(u) / w is at most t, as :func:`.scores.weighted_keys` has it."""
    probabilities: np.ndarray = -np.expm1(-weights * from_ordered_bits(np.array([key]))[0])
    return probabilities


def of_shares(counts: np.ndarray, key: np.uint64) -> np.ndarray:
    """Returns max(1/n, t): of a user's n rows in random order the first is kept, and t n of them where that is more."""
    probabilities: np.ndarray = np.maximum(1.0 / counts, float(key) * 2.0**-63)
    return probabilities


def row_weights(inclusion: Inclusion, scores: Scores, threshold: Threshold) -> np.ndarray:
    """Returns 1/p of the train rows that a threshold keeps, float64 [rows kept], in their order.

    Raises:
        SettingError: The scores of a sampler of one's own have no parameters, or a probability is not in (0, 1].
    """
    if scores.parameters is None:
        raise SettingError("a sampler with inclusion must return Scores with parameters, of which there are none.")
    units = np.flatnonzero(scores.units(threshold))
    probabilities = inclusion(scores.parameters.take(units).astype(np.float64), np.uint64(threshold.key))
    wrong = np.flatnonzero(~((probabilities > 0) & (probabilities <= 1)))
    if len(wrong):
        raise SettingError(
            f"the sampler's inclusion returned the probability {probabilities[wrong[0]]}, not in (0, 1]."
        )
    weights: np.ndarray = 1.0 / probabilities
    return weights if scores.rows is None else np.repeat(weights, scores.rows.take(units))
