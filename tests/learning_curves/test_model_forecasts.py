"""Forecasts: intervals that hold by simulation, monotone answers, doubts, the order of models, costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from distill_at_scale.learning_curves.calibration import Calibration, packaged, uncalibrated
from distill_at_scale.learning_curves.cost import cost_law
from distill_at_scale.learning_curves.forecast import Forecast, forecasts
from distill_at_scale.learning_curves.forms import FORMS, SLOWING
from distill_at_scale.learning_curves.growth import Growth, learn_growth
from distill_at_scale.learning_curves.measured import Measured
from distill_at_scale.learning_curves.order import expected_tau

SHARES = 0.1 / 2.0 ** np.arange(4, -1, -1)


def measured(
    limit: float = 0.3,
    rise: float = 0.03,
    model: str = "ease",
    seeds: int = 2,
    users: float = 0.01,
    samples: float = 0.01,
    seed: int = 0,
    resamples: int = 40,
) -> Measured:
    """A logarithmic curve through ``limit`` at all rows; ``users`` and ``samples`` are relative standard deviations of
    a level that all rungs share, and of each seed's own, which falls as samples grow."""
    rng = np.random.default_rng(seed)
    true = limit + rise * np.log(SHARES)
    level = 1 + users * rng.standard_normal()
    own = samples * rng.standard_normal((seeds, len(SHARES))) * np.sqrt(SHARES[-1] / SHARES)
    quality = true * level * (1 + own)
    resampled = quality[:, :, None] * (1 + users * rng.standard_normal(resamples))
    return Measured(model, SHARES, quality, resampled, np.ones_like(quality))


def test_intervals_cover_other_users_and_samples() -> None:
    """Curves whose form is known: 90 % of the intervals, before any widening, hold what all users give a new seed."""
    calibration = uncalibrated({"logarithm": 1.0})
    held = []
    for seed in range(150):
        _, low, high = Forecast(measured(seed=seed, seeds=3, users=0.03, samples=0.03), calibration).at_all
        new = measured(seed=1000 + seed, seeds=1, users=0.0, samples=0.03, resamples=2)
        held.append(low <= Forecast(new, calibration).at_all[0] <= high)
    assert 0.84 <= np.mean(held) <= 0.96


def test_an_interval_of_one_seed_is_over_users_only() -> None:
    calibration = uncalibrated({"logarithm": 1.0})
    one = Forecast(measured(seeds=1, users=0.02, samples=0.1), calibration)
    quality, low, high = one.at_all
    assert (high - low) / 2 / quality == pytest.approx(1.66 * 0.02, rel=0.3)


def test_the_factor_widens_what_is_extrapolated() -> None:
    one = measured(seeds=1)
    plain = Forecast(one, Calibration({"logarithm": 1.0}, 0.0, np.array([0.1]), np.array([1.0])))
    wide = Forecast(one, Calibration({"logarithm": 1.0}, 0.02, np.array([0.1]), np.array([3.0])))
    assert wide.at_all[0] == plain.at_all[0]
    assert np.log(wide.at_all[2] / wide.at_all[0]) > 2.9 * np.log(plain.at_all[2] / plain.at_all[0])
    rungs = plain.band(SHARES), wide.band(SHARES)
    np.testing.assert_allclose(rungs[0].high, rungs[1].high)


@pytest.mark.parametrize("seed", range(3))
def test_more_quality_needs_more_rows(seed: int) -> None:
    needs = Forecast(measured(seed=seed, samples=0.05), packaged()).needs((0.5, 0.8, 0.9, 0.95, 0.99, 1.0))
    for name in ("share", "low", "high"):
        values = [getattr(need, name) for need in needs]
        assert values == sorted(values)
    assert all(0 < need.low <= need.share <= need.high <= 1 for need in needs)
    assert needs[-1].share == 1.0


def test_rows_needed_of_a_known_curve() -> None:
    """0.3 + 0.03 ln p is 0.27 at e^-1, and 0.285 at e^-0.5 of the rows."""
    needs = Forecast(measured(users=0.0, samples=0.0), uncalibrated({"logarithm": 1.0})).needs((0.9, 0.95))
    assert [need.share for need in needs] == pytest.approx([np.exp(-1), np.exp(-0.5)], rel=0.02)


def test_doubts() -> None:
    lawful = measured(samples=0.002)
    assert Forecast(lawful, uncalibrated({"logarithm": 1.0})).doubt == ""

    falls = lawful.quality.copy()
    falls[:, 3] *= 1.3
    doubt = Forecast(replace(lawful, quality=falls), packaged()).doubt
    assert doubt.startswith("The curve of ease is not law-like: ")
    assert "quality falls from 5 % to 10 % of the rows, beyond noise" in doubt

    few = Measured("mf", SHARES[:3], lawful.quality[:, :3], None, lawful.cost[:, :3])
    assert Forecast(few, packaged()).doubt == ""
    few = replace(few, model="popularity", personal=False)
    assert "3 rungs are too few to hold one back" in Forecast(few, packaged()).doubt

    forms = dict.fromkeys(("exponential", "power law"), 1.0)
    assert "disagree, from" in Forecast(few, uncalibrated(forms)).doubt


def test_noise_is_no_doubt() -> None:
    """A seed's fall that another does not share, and users who like it less."""
    noisy = [
        Forecast(measured(seed=seed, rise=0.002, samples=0.03), uncalibrated({"logarithm": 1.0})).doubt
        for seed in range(40)
    ]
    assert sum("falls" in doubt for doubt in noisy) <= 6


def test_the_order_of_models_is_surer_the_farther_they_are_apart() -> None:
    calibration = uncalibrated({"logarithm": 1.0})

    def tau(second: float) -> float:
        models = [measured(0.3, model="a", seed=1), measured(second, model="b", seed=2)]
        found = expected_tau([Forecast(one, calibration) for one in models])
        assert found is not None
        expected, low, high = found
        assert -1 <= low <= expected <= high <= 1
        return expected

    assert tau(0.2) > 0.99
    assert tau(0.305) < 0.9
    for second in (0.27, 0.275, 0.28, 0.285, 0.29):  # a few draws swap some of these
        tau(second)
    assert expected_tau([Forecast(measured(), calibration)]) is None


@pytest.mark.parametrize(("fixed", "power"), [(0.5, 1.0), (0.0, 1.0), (0.0, 2.0), (3.0, 0.0)])
def test_costs(fixed: float, power: float) -> None:
    law = cost_law(SHARES, (fixed + 20.0 * SHARES**power)[None])
    assert law.at(1.0) == pytest.approx(fixed + 20.0, rel=0.15)
    assert law.low <= law.at(1.0) <= law.high


def test_the_packaged_calibration_is_whole() -> None:
    calibration = packaged()
    assert set(calibration.prior) <= set(FORMS)
    assert calibration.factor(0.1) >= 1.0
    assert calibration.factor(0.5) >= 1.0
    assert calibration.growth is not None
    assert calibration.growth.level < 0


def slowing(limit: float, rise: float, model: str, noise: np.ndarray, personal: bool = True) -> Measured:
    """ln q = ln limit + rise (1 − p^−0.3), the curve of a slowing power law, with a relative error of each rung."""
    quality = limit * np.exp(rise * (1.0 - SHARES**-0.3)) * np.exp(noise)
    return Measured(model, SHARES, quality[None], None, np.ones((1, len(SHARES))), personal)


def test_personalised_models_have_one_slope_and_the_others_their_own() -> None:
    calibration = uncalibrated({"slowing power law, 0.3": 1.0})
    rng = np.random.default_rng(5)
    together, alone = [], []
    for _ in range(50):
        noise = 0.05 * rng.standard_normal((4, len(SHARES))) * np.array([1, 1, 1, 0])[:, None]
        noise[:, -1] = 0.0
        models = [slowing(0.2 + 0.05 * k, 0.5, f"m{k}", noise[k]) for k in range(3)]
        models.append(slowing(0.1, 0.1, "popularity", noise[3], personal=False))
        found = forecasts(models, calibration)
        together += [one.at_all[0] / (0.2 + 0.05 * k) - 1 for k, one in enumerate(found[:3])]
        alone += [Forecast(one, calibration).at_all[0] / (0.2 + 0.05 * k) - 1 for k, one in enumerate(models[:3])]
        # Neither the slope of others, nor their noise.
        assert found[3].at_all[0] == pytest.approx(0.1, rel=1e-6)
    assert np.std(together) < 0.75 * np.std(alone)
    assert abs(np.mean(together)) < 0.02


def test_a_common_slope_goes_through_each_models_last_rung() -> None:
    calibration = uncalibrated({"slowing power law, 0.3": 1.0})
    noise = np.array([0.0, 0.1, -0.1, 0.05, 0.02])
    for one in forecasts([slowing(0.3, 0.4, "a", noise), slowing(0.2, 0.6, "b", -noise)], calibration):
        assert one.band(SHARES[-1:]).quality[0] == pytest.approx(one.measured.quality[0, -1])


# -- growth that other logs taught ----------------------------------------------------------------------------------


def grown(law: Growth, quality: float, users: float, share: float) -> float:
    """Quality on all rows by the law, written as it is read: q (1 / p)^(a + b ln q + c ln n)."""
    return quality * (1 / share) ** max(law.offset + law.level * math.log(quality) + law.users * math.log(users), 0.0)


def test_the_law_is_learned_from_logs_that_follow_it() -> None:
    law = Growth(0.1, -0.12, -0.02)
    rng = np.random.default_rng(3)
    quality, share = rng.uniform(0.01, 0.3, 60), rng.choice([0.1, 0.2], 60)
    users = rng.integers(30, 5000, 60).astype(np.float64)
    at_all = np.array([grown(law, *one) for one in zip(quality, users, share)])
    # A log that is far off, however many models it has, does not decide.
    at_all[:6] *= 3
    found = learn_growth(quality, share, users, at_all, ["odd"] * 6 + [f"log-{k % 20}" for k in range(54)])
    assert (found.offset, found.level, found.users) == pytest.approx((0.1, -0.12, -0.02), abs=2e-3)


def test_personalised_models_grow_by_the_law_from_their_last_rung() -> None:
    law = Growth(0.05, -0.12, -0.015)
    calibration = replace(uncalibrated(dict.fromkeys(SLOWING, 0.2)), growth=law)
    own = replace(measured(model="svd_ae", limit=0.1, seed=1), users=300.0)
    popular = replace(measured(model="popularity", limit=0.1, seed=1), users=300.0, personal=False)
    found, other = forecasts([own, popular], calibration)
    wanted = np.mean([grown(law, float(q), 300.0, float(SHARES[-1])) for q in own.quality[:, -1]])
    assert found.at_all[0] == pytest.approx(wanted, rel=1e-9)
    assert other.at_all[0] == pytest.approx(forecasts([popular], uncalibrated(calibration.prior))[0].at_all[0])
    curve = found.curve().quality
    assert (np.diff(curve) >= 0).all()
    assert found.band(SHARES[-1:]).quality[0] == pytest.approx(own.quality[:, -1].mean())
    # Nothing is foreseen to fall, and what was measured on all rows stays.
    assert law.rise(np.array([1.0]), 0.1, 1e6)[0] == 0.0
    whole = replace(own, shares=SHARES / SHARES[-1])
    assert forecasts([whole], calibration)[0].at_all[0] == pytest.approx(whole.quality[:, -1].mean())


def test_what_is_extrapolated_farther_is_less_sure_and_more_so_where_rungs_and_law_differ() -> None:
    calibration = replace(uncalibrated({"slowing power law, 0.3": 1.0}), drift=0.05)
    own, beta = measured(users=1e-6, samples=1e-6), {"slowing power law, 0.3": np.full(82, 0.4)}
    beyond = math.log(1 / SHARES[-1])

    def halves(one: Forecast) -> np.ndarray:
        band = one.band(np.array([SHARES[-1], math.sqrt(SHARES[-1]), 1.0]))
        return np.log(band.high / band.quality)

    law = Forecast(own, calibration, beta)
    assert law.rise == pytest.approx(0.4 * (SHARES[-1] ** -0.3 - 1))
    apart = Forecast(own, calibration, beta, law.rise + 0.5)
    assert apart.at_all[0] == law.at_all[0]
    assert halves(law)[[0, 2]] == pytest.approx([0.0, 1.645 * 0.05 * beyond], rel=0.02, abs=1e-3)
    assert halves(apart)[2] == pytest.approx(1.645 * math.hypot(0.05 * beyond, 0.125), rel=0.02)
    steep = Forecast(own, replace(calibration, rise=0.1), beta)
    assert halves(steep)[2] == pytest.approx(1.645 * math.hypot(0.05 * beyond, 0.1 * law.rise), rel=0.02)
    assert halves(law)[1] < halves(apart)[1] < halves(apart)[2]
    assert law.doubt == ""
    assert "it rises unlike those of other logs (65 % apart on all rows)" in apart.doubt
