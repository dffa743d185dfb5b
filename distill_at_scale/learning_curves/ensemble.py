"""Several forms as one curve: each weighs as well as it predicts the larger rungs from the smaller ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from distill_at_scale.learning_curves.forms import FORMS, Fitted, Form, fit, through_last

FEWEST = 3
"""Rungs to which a form can be fitted."""
# A relative error of a held-back rung below this says nothing: seeds and users cause as much.
_NOISE = 0.03
_MOST_HELD_BACK = 2
_LEAST = 1e-9


@dataclass(frozen=True)
class Ensemble:
    """Forms fitted to the same curves, and their weights.

    Attributes:
        fitted: The forms.
        weights: float64 [forms], sum 1.
    """

    fitted: tuple[Fitted, ...]
    weights: np.ndarray

    def at(self, share: np.ndarray) -> np.ndarray:
        """Weighted mean of the forms at shares of the rows, for each curve: float64 [curves, shares]."""
        return np.einsum("f,fcs->cs", self.weights, self.by_form(share))

    def by_form(self, share: np.ndarray) -> np.ndarray:
        """float64 [forms, curves, shares]."""
        return np.stack([one.at(share) for one in self.fitted])

    @property
    def by_name(self) -> dict[str, float]:
        """Weight of each form, the largest first."""
        pairs = zip((one.form.name for one in self.fitted), map(float, self.weights))
        return dict(sorted(pairs, key=lambda pair: -pair[1]))


def rung_weights(shares: np.ndarray) -> np.ndarray:
    """Weights of rungs, float64 [rungs]: a sample's own variance falls with its number of users."""
    return shares / shares.sum()


def combine(
    shares: np.ndarray,
    curves: np.ndarray,
    prior: Mapping[str, float],
    more: np.ndarray,
    slopes: Mapping[str, np.ndarray] | None = None,
) -> Ensemble:
    """Fits all forms to curves, and weighs them by their errors on held-back rungs of the mean curve.

    The largest rung, and then the two largest, are predicted from the others. A form weighs prior · (e² + noise²)^-1,
    with e its root mean square of relative errors there. Without rungs to hold back the prior decides.

    Args:
        shares: float64 [rungs], ascending shares of the train rows.
        curves: float64 [curves, rungs], quality; their mean decides the weights.
        prior: Weight of each form before anything is measured; forms that it lacks are left out.
        more: float64 [more, rungs], further curves to which the forms are fitted.
        slopes: Form -> β of all curves, float64 [curves + more], where it is known from several models; such a form
            goes through the last rung.
    """
    slopes = slopes or {}
    forms = [FORMS[name] for name in prior if FORMS[name].n_parameters <= len(shares)]
    mean, every = curves.mean(0, keepdims=True), np.concatenate([curves, more])
    weights = [prior[form.name] / (_held_back(form, shares, mean) + _NOISE**2) for form in forms]
    fitted = tuple(
        through_last(form, shares, every, slopes[form.name])
        if form.name in slopes
        else fit(form, shares, every, rung_weights(shares))
        for form in forms
    )
    return Ensemble(fitted, np.array(weights) / np.sum(weights))


def _held_back(form: Form, shares: np.ndarray, mean: np.ndarray) -> float:
    """Mean square of the relative errors of held-back rungs; 0 where none can be held back."""
    errors = []
    for held in range(1, _MOST_HELD_BACK + 1):
        left = len(shares) - held
        if left >= max(FEWEST, form.n_parameters):
            predicted = fit(form, shares[:left], mean[:, :left], rung_weights(shares[:left])).at(shares[left:])[0]
            errors.append(float(np.mean(np.square(predicted / np.maximum(mean[0, left:], _LEAST) - 1.0))))
    return float(np.mean(errors)) if errors else 0.0
