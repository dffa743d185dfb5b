"""Forms of learning curves: each finds its own parameters, as a slow search over all of them does."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from distill_at_scale.learning_curves.ensemble import combine
from distill_at_scale.learning_curves.forms import FORMS, SLOWING, Form, fit

SHARES = np.array([0.00625, 0.0125, 0.025, 0.05, 0.1])
ALL = np.array([1.0])
NONE = np.empty((0, len(SHARES)))

# α, β, θ of curves as real ones are.
CURVES = {
    "power law with a limit": (0.3, 0.07, (0.25,)),
    "power law": (np.log(0.3), 0.2, ()),
    "logarithm": (0.3, 0.03, ()),
    "squared logarithm": (0.55, 0.04, ()),
    "exponential": (0.2, 0.15, (20.0,)),
    "MMF": (0.0, 0.35, (0.05, 0.7)),
    "Janoschek": (0.0, 0.3, (0.08, 0.6)),
    **{name: (np.log(0.35) + 0.4, 0.4, (theta,)) for name, theta in SLOWING.items()},
}


def curve(form: Form, shares: np.ndarray) -> np.ndarray:
    offset, scale, theta = CURVES[form.name]
    return form.from_line(offset + scale * form.basis(shares, *theta))


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_a_form_finds_its_own_curve(form: Form) -> None:
    """Parameters between the grid's, so that the extrapolation is right within a few percent."""
    found = fit(form, SHARES, curve(form, SHARES)[None], SHARES)
    shares = np.array([0.01, 0.1, 0.3, 1.0])
    np.testing.assert_allclose(found.at(shares)[0], curve(form, shares), rtol=0.05)


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_a_fit_is_the_best_there_is(form: Form) -> None:
    """No point of a fine grid over all parameters within the bounds has a smaller weighted error, on a noisy curve."""
    rng = np.random.default_rng(3)
    quality = curve(form, SHARES) * (1 + 0.1 * rng.standard_normal(len(SHARES)))
    found = fit(form, SHARES, quality[None], SHARES)
    weights = SHARES / np.square(form.slope(quality))
    weights /= weights.sum()
    line = form.to_line(quality)
    offsets = np.linspace(-4.0, 1.0, 251) if form.offset else np.zeros(1)
    scales = np.linspace(0.0, 2.0, 401)
    for theta in form.shapes[:: max(len(form.shapes) // 20, 1)]:
        rise = np.broadcast_to(form.basis(SHARES, *theta), SHARES.shape)
        residual = line - offsets[:, None, None] - scales[None, :, None] * rise
        assert found.error[0] <= (np.square(residual) @ weights).min() + 1e-12


def test_a_falling_curve_is_fitted_by_a_flat_one() -> None:
    """β ≥ 0: more rows never forecast less."""
    for form, quality in product(FORMS.values(), (np.linspace(0.3, 0.2, 5), np.full(5, 0.25))):
        values = fit(form, SHARES, quality[None], SHARES).at(np.geomspace(0.001, 1, 50))[0]
        assert (np.diff(values) >= -1e-12).all()
        assert (values >= 0).all()
        assert (values <= 1).all()


def test_curves_are_fitted_together_as_alone() -> None:
    rng = np.random.default_rng(0)
    curves = np.sort(rng.uniform(0.1, 0.3, (4, 5)), axis=1)
    for form in FORMS.values():
        # The weights of T(q) come from the mean curve, so the same curves are given each time.
        together = fit(form, SHARES, np.repeat(curves, 2, axis=0), SHARES).at(ALL)[:, 0]
        np.testing.assert_array_equal(together[::2], together[1::2])


@pytest.mark.parametrize("truth", ["power law", "exponential"])
def test_the_form_that_predicts_held_back_rungs_weighs_most(truth: str) -> None:
    quality = curve(FORMS[truth], SHARES)[None]
    weights = combine(SHARES, quality, dict.fromkeys(("power law", "exponential"), 1.0), NONE).by_name
    assert weights[truth] > 0.7
    assert sum(weights.values()) == pytest.approx(1.0)


def test_forms_with_more_parameters_than_rungs_are_left_out() -> None:
    weights = combine(SHARES[:2], np.array([[0.1, 0.2]]), dict.fromkeys(FORMS, 1.0), NONE[:, :2]).by_name
    assert set(weights) == {"power law", "logarithm", "squared logarithm"}
