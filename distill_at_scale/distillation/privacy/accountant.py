"""How much noise ε and δ ask for: privacy loss distributions by Google's `dp-accounting`.

The start of a run is a Gaussian mechanism. Each step is another, on a Poisson sample of the users.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from distill_at_scale import extras
from distill_at_scale.errors import SettingError

_PACKAGE = "dp-accounting"
# Losses are rounded up to multiples of this share of ε: what comes out is a bound, by less than 0.5 % too large.
_GRID = 1 / 1000
_TOLERANCE = 0.002
# Orders of Rényi divergences; whole numbers, whose sums are exact and quick.
_ORDERS = (*range(2, 33), 40, 48, 64, 96, 128, 256, 512)


@dataclass(frozen=True)
class Budget:
    """Noise multipliers, and the ε that they spend.

    Attributes:
        start: σ of the start.
        step: σ of a step.
        epsilon: ε spent by all, at the given δ.
        accountant: Accountant and its version.
    """

    start: float
    step: float
    epsilon: float
    accountant: str


def require_accountant() -> None:
    """Checks that the accountant is installed.

    Raises:
        DasError: It is not; the message names the extra.
    """
    try:
        importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise extras.missing("--privacy", _PACKAGE, "privacy") from None


def budget_of(epsilon: float, delta: float, start: float, sampling_rate: float, steps: int) -> Budget:
    """Returns the least noise that keeps to ε and δ for adding or removing one user.

    Args:
        epsilon, delta: What may be spent.
        start: Share of ε that the start may spend alone.
        sampling_rate: Probability with which a user is in a step.
        steps: Number of steps.

    Raises:
        DasError: The accountant is not installed.
        SettingError: ε is so small that no noise is found.
    """
    require_accountant()
    import dp_accounting
    from dp_accounting import pld, rdp

    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE

    def tight() -> Any:
        return pld.PLDAccountant(relation, value_discretization_interval=epsilon * _GRID)

    def loose() -> Any:
        return rdp.RdpAccountant(_ORDERS, relation)

    def least(event_of: Any, allowed: float) -> float:
        # Rényi divergences are quick and give somewhat more noise than is needed; losses' distributions of far too
        # little noise are huge.
        guess, search = dp_accounting.LowerEndpointAndGuess(0.05, 1.0), dp_accounting.calibrate_dp_mechanism
        most = float(search(loose, event_of, allowed, delta, guess, tol=_TOLERANCE))
        between = dp_accounting.ExplicitBracketInterval(0.5 * most, 1.05 * most)
        return float(search(tight, event_of, allowed, delta, between, tol=_TOLERANCE))

    def composed(first: float, sigma: float) -> Any:
        step = dp_accounting.PoissonSampledDpEvent(sampling_rate, dp_accounting.GaussianDpEvent(sigma))
        repeated = dp_accounting.SelfComposedDpEvent(step, steps)
        return dp_accounting.ComposedDpEvent([dp_accounting.GaussianDpEvent(first), repeated])

    try:
        first = least(dp_accounting.GaussianDpEvent, start * epsilon)
        sigma = least(lambda value: composed(first, value), epsilon)
    except dp_accounting.NoBracketIntervalFoundError:
        raise SettingError(
            f"--privacy epsilon={epsilon:g} asks for more noise than can be accounted for with {steps:,} steps; set a "
            "larger epsilon, or fewer steps."
        ) from None
    spent = tight()
    spent.compose(composed(first, sigma))
    version = f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}, privacy loss distributions"
    return Budget(first, sigma, float(spent.get_epsilon(delta)), version)
