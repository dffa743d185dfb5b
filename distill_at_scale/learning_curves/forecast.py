"""The forecast of one model: its quality on all rows with an interval, and the rows that are enough.

Three things are uncertain: which users are asked (V_u, by the bootstrap), which sample and initialisation a seed draws
(s², between seeds), and how the curve goes on (the spread of the forms, what is between this log's rungs and the law of
other logs, and drifts that grow with what is extrapolated and with how far quality rises there). An interval has all
three. It is at least as wide as forecasts of real logs from one seed were wrong: users and forms times a factor, by
which as many of those held as an interval promises (`calibration`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill_at_scale.evaluation.intervals import LEVEL, Spread, spread
from distill_at_scale.learning_curves.calibration import Calibration
from distill_at_scale.learning_curves.doubts import doubt
from distill_at_scale.learning_curves.ensemble import Ensemble, combine, rung_weights
from distill_at_scale.learning_curves.forms import FORMS, SLOWING, slopes
from distill_at_scale.learning_curves.growth import Growth
from distill_at_scale.learning_curves.measured import Measured

TARGETS = (0.9, 0.95, 0.99)
"""Shares of the quality on all rows for which the rows are told."""
_Z = 1.6448536269514722
"""Normal quantile of a 90 % interval."""
_STEPS = 400
_CURVE_POINTS = 33
_LEAST = 1e-9
_ALL = np.array([1.0])


@dataclass(frozen=True)
class Need:
    """How much is enough.

    Attributes:
        target: Share of the quality on all rows that is to be kept.
        share: Share of the train rows that keeps it; at least that of the smallest rung.
        low, high: 90 % interval of that share.
    """

    target: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """A curve with its 90 % intervals; float64 [points] each.

    Attributes:
        shares: Shares of the train rows.
        quality, low, high: Quality there.
    """

    shares: np.ndarray
    quality: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class _Uncertain:
    """A quality and what it varies by, before an interval is widened."""

    centre: float
    forms: float
    """Standard deviation of how the curve goes on."""
    spread: Spread | None
    """Interval over users and seeds; None if no users were resampled."""
    users: np.ndarray
    """float64 [resamples], deviations of the resampled users' quality from their mean."""

    @property
    def half(self) -> float:
        """Half of a 90 % interval over users, seeds and forms."""
        low, high = (0.0, 0.0) if self.spread is None else self.spread.of_new or self.spread.of_mean
        return float(np.hypot((high - low) / 2, _Z * self.forms))

    @property
    def half_without_seeds(self) -> float:
        """Half of a 90 % interval over users and forms only, as if there were one seed."""
        users = 0.0 if self.spread is None else self.spread.users
        return _Z * float(np.sqrt(users + self.forms**2))


class Forecast:
    """The forecast of one model."""

    def __init__(
        self,
        measured: Measured,
        calibration: Calibration,
        slopes: Mapping[str, np.ndarray] | None = None,
        own_rise: float | None = None,
    ) -> None:
        """Fits the forms to the seeds' curves, and with the same weights to those over resampled users.

        Args:
            measured: The rungs.
            calibration: What other logs taught.
            slopes: Form -> β of all curves where it is not this model's rungs that tell it; see :func:`forecasts`.
            own_rise: ln of quality on all rows beyond the largest rung as the rungs of this log alone tell it, where
                ``slopes`` come from other logs.
        """
        self.measured = measured
        self.calibration = calibration
        self.ensemble: Ensemble = combine(
            measured.shares, measured.quality, calibration.prior, measured.of_resampled_users(), slopes
        )
        self._apart = 0.0 if own_rise is None else abs(self.rise - own_rise)

    @property
    def largest(self) -> float:
        """Share of the train rows of the largest rung; 1 if quality on all rows was measured, not forecast."""
        return float(self.measured.shares[-1])

    @cached_property
    def rise(self) -> float:
        """ln of quality on all rows beyond the largest rung, before what was measured there replaces it."""
        on_all = float(self.ensemble.at(_ALL)[: self.measured.n_seeds, 0].mean())
        return float(np.log(max(on_all, _LEAST) / max(float(self.measured.quality[:, -1].mean()), _LEAST)))

    @cached_property
    def at_all(self) -> tuple[float, float, float]:
        """Quality on all rows, and the ends of its 90 % interval."""
        band = self.band(_ALL)
        return float(band.quality[0]), float(band.low[0]), float(band.high[0])

    def band(self, shares: np.ndarray) -> Band:
        """The curve with its intervals at shares of the rows; float64 [points]."""
        by_form = self._values(shares)
        found = [self._uncertain(by_form[:, :, k], float(share)) for k, share in enumerate(shares)]
        centre = np.array([one.centre for one in found])
        least = np.maximum(centre, _LEAST)
        relative = np.array([one.half for one in found]) / least
        calibrated = self._widened(np.array([one.half_without_seeds for one in found]) / least)
        # Up to the largest rung nothing is extrapolated; from there to all rows intervals widen evenly.
        way = np.clip(np.log(shares / self.largest) / max(-np.log(self.largest), _LEAST), 0.0, 1.0)
        width = relative + way * np.maximum(calibrated - relative, 0.0)
        # What is extrapolated is wrong by a factor, what was measured by a difference.
        low = (1 - way) * np.maximum(1 - width, 0.0) + way * np.exp(-width)
        high = (1 - way) * (1 + width) + way * np.exp(width)
        return Band(shares, centre, centre * low, np.minimum(centre * high, 1.0))

    def curve(self) -> Band:
        """The curve from the smallest rung to all rows, for a figure."""
        return self.band(np.geomspace(float(self.measured.shares[0]), 1.0, _CURVE_POINTS))

    def needs(self, targets: Sequence[float] = TARGETS) -> list[Need]:
        """The rows that keep shares of the quality on all rows; the more is asked for, the more rows.

        Args:
            targets: Ascending shares, above 0 and at most 1.
        """
        grid = np.geomspace(float(self.measured.shares[0]), 1.0, _STEPS)
        by_form = self._values(grid)
        mean = np.einsum("f,fcs->s", self.ensemble.weights, by_form[:, : self.measured.n_seeds])
        members = by_form.reshape(-1, len(grid))
        weights = np.repeat(self.ensemble.weights / by_form.shape[1], by_form.shape[1])
        factor, tails = (
            1.0 if self.largest >= 1.0 else self.calibration.factor(self.largest),
            ((1 - LEVEL) / 2, (1 + LEVEL) / 2),
        )
        found: list[Need] = []
        least = np.zeros(3)
        for target in targets:
            share = _first(mean[None, :], target, grid)[0]
            low, high = (_quantile(_first(members, target, grid), weights, tail) for tail in tails)
            # Widened as the quality is, by the same factor, on the scale of ratios.
            wide = [share, share * min(low / share, 1.0) ** factor, min(share * max(high / share, 1.0) ** factor, 1.0)]
            least = np.maximum(least, wide)
            found.append(Need(target, *map(float, least)))
        return found

    def deviations(self) -> tuple[float, np.ndarray]:
        """What the quality on all rows varies by, widened: the standard deviation of what is this model's own (seeds
        and forms), and float64 [resamples], deviations over resampled users, which are the same for all models."""
        found = self._uncertain(self._values(_ALL)[:, :, 0], 1.0)
        scale = max(found.centre, _LEAST)
        calibrated = self._widened(np.array([found.half_without_seeds / scale]))
        factor = max(float(calibrated[0]) * scale / max(found.half, _LEAST), 1.0)
        seeds = 0.0 if found.spread is None else (found.spread.seeds or 0.0) * (1 + 1 / self.measured.n_seeds)
        return factor * float(np.sqrt(seeds + found.forms**2)), factor * found.users

    @property
    def doubt(self) -> str:
        """Why the curve is not law-like, as one sentence; "" if it is."""
        return doubt(self.measured, self.ensemble, self._apart)

    def _values(self, shares: np.ndarray) -> np.ndarray:
        """The forms at shares of the rows, float64 [forms, curves, shares]; on all rows what was measured there."""
        values = self.ensemble.by_form(shares)
        if self.largest >= 1.0:
            values[:, :, shares >= 1.0] = self.measured.curves[None, :, -1:]
        return values

    def _widened(self, relative: np.ndarray) -> np.ndarray:
        """Relative half-widths that hold for what is extrapolated; float64, as ``relative``."""
        return relative if self.largest >= 1.0 else self.calibration.factor(self.largest) * relative

    def _uncertain(self, values: np.ndarray, share: float) -> _Uncertain:
        """What is known of the quality at one share, of float64 [forms, curves]."""
        n_seeds = self.measured.n_seeds
        combined = self.ensemble.weights @ values
        own, others = combined[:n_seeds], combined[n_seeds:].reshape(n_seeds, -1)
        centre = float(own.mean())
        forms = float(np.sqrt(self.ensemble.weights @ np.square(values[:, :n_seeds].mean(1) - centre)))
        beyond = float(np.log(max(share / self.largest, 1.0)))
        way = beyond / max(-float(np.log(self.largest)), _LEAST)
        # Other logs and the rungs of this one are two opinions. With a quarter of the difference between them and a
        # tenth of the rise, the mean width over 27 logs was an eighth less than with half of it and none of the rise.
        drifts = (self.calibration.drift * beyond, self.calibration.rise * abs(self.rise) * way, self._apart / 4 * way)
        drift = centre * float(np.linalg.norm(drifts))
        users = others.mean(0) - others.mean() if others.size else np.zeros(0)
        return _Uncertain(
            centre, float(np.hypot(forms, drift)), spread(own.tolist(), others) if others.size else None, users
        )


def forecasts(measured: Sequence[Measured], calibration: Calibration) -> list[Forecast]:
    """Forecasts of several models on the same samples, in their order.

    A personalised model grows as the calibration's law has it. Without one, personalised models rise alike on one log,
    by far more alike than the slopes of few noisy rungs: β of the slowing power laws is their mean over these models,
    curve by curve. A model that ranks by no history rises as it does alone.
    """
    together: dict[tuple[int, ...], list[Measured]] = {}
    for one in measured:
        if one.personal:
            together.setdefault(one.curves.shape, []).append(one)
    found = []
    for one in measured:
        several = together.get(one.curves.shape, [one]) if one.personal else [one]
        names = [name for name in SLOWING if name in calibration.prior]
        own = Forecast(one, calibration, {name: _common(name, several) for name in names})
        if one.personal and calibration.growth is not None and one.users is not None and own.largest < 1.0:
            learned = {name: _learned(name, calibration.growth, one, one.users) for name in names}
            own = Forecast(one, calibration, learned, own.rise)
        found.append(own)
    return found


def _learned(name: str, growth: Growth, one: Measured, users: float) -> np.ndarray:
    """β by which a form through the last rung of each curve gives on all rows what the law says; float64 [curves]."""
    share = float(one.shares[-1])
    rise = FORMS[name].basis(np.array([share, 1.0]), SLOWING[name])
    return growth.rise(one.curves[:, -1], share, users) / (rise[1] - rise[0])


def _common(name: str, several: Sequence[Measured]) -> np.ndarray:
    """β of each curve, the mean over several models; float64 [curves]."""
    return np.mean([slopes(FORMS[name], of.shares, of.curves, rung_weights(of.shares)) for of in several], axis=0)


def _first(curves: np.ndarray, target: float, grid: np.ndarray) -> np.ndarray:
    """The smallest share of ``grid`` at which each curve has ``target`` of its last value; float64 [curves]."""
    return grid[np.argmax(curves >= target * curves[:, -1:] - _LEAST, axis=1)]


def _quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    order = np.argsort(values, kind="stable")
    place = np.searchsorted(np.cumsum(weights[order]), q * weights.sum() - _LEAST)
    return float(values[order][min(place, len(values) - 1)])
