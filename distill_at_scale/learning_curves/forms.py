"""Forms of learning curves, and how one is fitted: weighted least squares with bounds, on many curves at once.

Every form is T(q) = α + β φ(p; θ): quality q, share of the train rows p in (0, 1], a known transform T, and a shape θ
of no, one or two numbers. Given θ, the best α and β within their bounds have a closed form, so θ is searched on a grid.
It needs no start value and has no local minima, and a bootstrap of hundreds of curves costs as much as one.

A power law whose exponent falls with the rows, ln q = α − β p^−θ, has its θ from other logs, since few noisy rungs do
not tell it, and its β may be common to several models (:func:`slopes`).

Sources: Viering, Loog, "The shape of learning curves: a review" (2022), table 1 (power laws, exponential, logarithm);
Mohr, Viering, Loog, van Rijn, "LCDB 1.0" (2022) (MMF, Janoschek's or Weibull's curve); variable projection: Golub,
Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems" (1973).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

_TINY = 1e-12


@dataclass(frozen=True)
class Form:
    """A form of learning curves.

    Attributes:
        name: Name in results.
        formula: Formula, for people.
        basis: φ(p; θ), float64 as ``p``; increases in p.
        shapes: Grid of θ.
        offset: Whether α is free; otherwise it is 0.
        limit: Whether the curve has an upper limit.
        transform: T: "identity", "root" or "log".
    """

    name: str
    formula: str
    basis: Callable[..., np.ndarray]
    shapes: tuple[tuple[float, ...], ...]
    offset: bool
    limit: bool
    transform: str = "identity"

    @property
    def n_parameters(self) -> int:
        """Number of free parameters."""
        return 1 + self.offset + len(self.shapes[0])

    def to_line(self, quality: np.ndarray) -> np.ndarray:
        """T(q)."""
        return _TO[self.transform](quality)

    def from_line(self, value: np.ndarray) -> np.ndarray:
        """q of T(q), which lies in [0, 1]."""
        return np.clip(_FROM[self.transform](value), 0.0, 1.0)

    def slope(self, quality: np.ndarray) -> np.ndarray:
        """T'(q), by which errors of q become errors of T(q)."""
        return _SLOPE[self.transform](quality)


_TO: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda q: q,
    "root": lambda q: np.sqrt(np.maximum(q, 0.0)),
    "log": lambda q: np.log(np.maximum(q, _TINY)),
}
_FROM: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda value: value,
    "root": lambda value: np.square(np.maximum(value, 0.0)),
    "log": lambda value: np.exp(np.minimum(value, 0.0)),
}
_SLOPE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": np.ones_like,
    "root": lambda q: 0.5 / np.sqrt(np.maximum(q, 1e-6)),
    "log": lambda q: 1.0 / np.maximum(q, 1e-6),
}


def _grid(low: float, high: float, n: int) -> tuple[float, ...]:
    """``n`` numbers of equal ratios."""
    return tuple(float(value) for value in np.geomspace(low, high, n))


def _one(values: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


SLOWING = {f"slowing power law, {theta:g}": theta for theta in (0.1, 0.2, 0.3, 0.4, 0.5)}
"""Name -> θ."""
_TWO = tuple(product(_grid(1e-3, 30.0, 48), _grid(0.25, 1.6, 24)))
"""κ and δ."""
FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("power law with a limit", "α − β p^−θ", lambda p, t: -(p**-t), _one(_grid(0.01, 2.0, 60)), True, True),
        Form("power law", "α p^β", np.log, ((),), True, False, "log"),
        Form("logarithm", "α + β ln p", np.log, ((),), True, False),
        Form("squared logarithm", "(α + β ln p)²", np.log, ((),), True, False, "root"),
        Form("exponential", "α − β e^−θp", lambda p, t: -np.exp(-t * p), _one(_grid(1.0, 300.0, 60)), True, True),
        Form(
            "MMF",
            "β p^δ / (κ^δ + p^δ)",
            lambda p, k, d: p**d / (k**d + p**d),
            _TWO,
            False,
            True,
        ),
        Form(
            "Janoschek",
            "β (1 − e^−(p/κ)^δ)",
            lambda p, k, d: -np.expm1(-((p / k) ** d)),
            _TWO,
            False,
            True,
        ),
        *(
            Form(name, f"e^(α − β p^−{theta:g})", lambda p, t: -(p**-t), ((theta,),), True, False, "log")
            for name, theta in SLOWING.items()
        ),
    )
}
"""Forms by name."""


@dataclass(frozen=True)
class Fitted:
    """A form fitted to some curves at once.

    Attributes:
        form: The form.
        offset, scale: α and β of each curve, float64 [curves].
        shapes: θ of each curve, float64 [curves, size of θ].
        error: Weighted sum of squared errors in units of T(q), float64 [curves].
    """

    form: Form
    offset: np.ndarray
    scale: np.ndarray
    shapes: np.ndarray
    error: np.ndarray

    def at(self, share: np.ndarray) -> np.ndarray:
        """Quality of every curve at shares of the rows, float64 [curves, shares]."""
        theta = [column[:, None] for column in self.shapes.T]
        rise = np.broadcast_to(self.form.basis(share[None, :], *theta), (len(self.scale), len(share)))
        return self.form.from_line(self.offset[:, None] + self.scale[:, None] * rise)


def slopes(form: Form, shares: np.ndarray, quality: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """β of each curve, float64 [curves], for a form with a single θ; arguments as for :func:`fit`."""
    return fit(form, shares, quality, weights).scale


def through_last(form: Form, shares: np.ndarray, quality: np.ndarray, scale: np.ndarray) -> Fitted:
    """A form with a single θ and known β, float64 [curves], through the last rung of each curve."""
    shapes = np.repeat(np.array(form.shapes, dtype=np.float64), len(quality), axis=0)
    last = form.basis(shares[None, -1:], *(theta[:, None] for theta in shapes.T))[:, 0]
    offset = form.to_line(quality[:, -1]) - scale * last
    return Fitted(form, offset, scale, shapes, np.zeros(len(quality)))


def fit(form: Form, shares: np.ndarray, quality: np.ndarray, weights: np.ndarray) -> Fitted:
    """Fits a form to curves with common rungs.

    Args:
        form: The form.
        shares: float64 [rungs], shares of the train rows.
        quality: float64 [curves, rungs], in [0, 1].
        weights: float64 [rungs], inverse variances of quality.

    Returns:
        The best α in [0, 1] (any α for transforms other than the identity), β ≥ 0 and θ on the grid, for each curve.
    """
    line = form.to_line(quality)
    # Weights of T(q) by the mean curve: those of each curve would favour the resamples' own errors.
    each = weights / np.square(form.slope(np.maximum(quality.mean(0), _TINY)))
    each = each / each.sum()
    shapes = np.array(form.shapes, dtype=np.float64)
    rises = form.basis(shares[None, :], *(theta[:, None] for theta in shapes.T))
    rises = np.broadcast_to(rises, (len(shapes), len(shares)))
    offset, scale = _lines(rises, line, each, form.offset, 1.0 if form.transform == "identity" else np.inf)
    # Σ w (T(q) − α − β φ)², multiplied out.
    square, cross = np.square(line) @ each, line @ (each * rises).T
    error = square[:, None] - 2 * (offset * (line @ each)[:, None] + scale * cross)
    error += np.square(offset) + 2 * offset * scale * (rises @ each) + np.square(scale) * (np.square(rises) @ each)
    best = np.argmin(error, axis=1)
    curves = np.arange(len(line))
    return Fitted(form, offset[curves, best], scale[curves, best], shapes[best], np.maximum(error[curves, best], 0.0))


def _lines(
    rises: np.ndarray, line: np.ndarray, weights: np.ndarray, free: bool, bound: float
) -> tuple[np.ndarray, np.ndarray]:
    """α and β of T(q) = α + β φ by weighted least squares with α ≤ ``bound`` and β ≥ 0.

    Args:
        rises: float64 [shapes, rungs], φ.
        line: float64 [curves, rungs], T(q).
        weights: float64 [rungs], sum 1.
        free: Whether α is free; else it is 0.

    Returns:
        float64 [curves, shapes] each.
    """
    weighted, square = (weights * rises).T, np.maximum(np.square(rises) @ weights, _TINY)
    if not free:
        scale = np.maximum(line @ weighted / square, 0.0)
        return np.zeros_like(scale), scale
    middle, centre = rises @ weights, (line @ weights)[:, None]
    spread = np.maximum(np.square(rises - middle[:, None]) @ weights, _TINY)
    scale = np.maximum((line - centre) @ (weights * (rises - middle[:, None])).T / spread, 0.0)
    offset = centre - scale * middle
    if np.isfinite(bound):
        # The problem is convex: where the bound on α is broken, the best lies on it.
        broken = offset > bound
        scale = np.where(broken, np.maximum((line - bound) @ weighted / square, 0.0), scale)
        offset = np.where(broken, bound, offset)
    return offset, scale
