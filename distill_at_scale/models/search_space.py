"""Where good settings may lie: the ranges in which a search looks for them, around their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``, drawn evenly, or evenly in their logarithms."""

    low: float
    high: float
    log: bool


# Rates and weights are known to an order of magnitude; shares lie where they lie, whatever the default is.
_FACTORS = {"learning_rate": 8.0, "beta": 8.0}
_SHARES = {"dropout": (0.05, 0.7), "hide": (0.2, 0.7)}


def search_space(defaults: Mapping[str, float]) -> dict[str, Range]:
    """The ranges of those settings that are worth a search; the default lies in each.

    Args:
        defaults: settings by name, as far as they are numbers.
    """
    found = {}
    for name, value in defaults.items():
        if name in _FACTORS and value > 0:
            found[name] = Range(value / _FACTORS[name], value * _FACTORS[name], log=True)
        elif name in _SHARES:
            low, high = _SHARES[name]
            found[name] = Range(min(low, value), max(high, value), log=False)
    return found
