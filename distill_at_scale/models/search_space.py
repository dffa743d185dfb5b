"""Search space of hyper-parameters: ranges around the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``, drawn uniformly, or uniformly in their logarithms."""

    low: float
    high: float
    log: bool


# Rates and weights are searched within a factor of their default, shares within a fixed range.
_FACTORS = {"learning_rate": 8.0, "beta": 8.0}
_SHARES = {"dropout": (0.05, 0.7), "hide": (0.2, 0.7)}


def search_space(defaults: Mapping[str, float]) -> dict[str, Range]:
    """Returns the ranges of the settings that are worth a search; each contains its default.

    Args:
        defaults: Numeric settings by name.
    """
    ranges = {}
    for name, value in defaults.items():
        if name in _FACTORS and value > 0:
            ranges[name] = Range(value / _FACTORS[name], value * _FACTORS[name], log=True)
        elif name in _SHARES:
            low, high = _SHARES[name]
            ranges[name] = Range(min(low, value), max(high, value), log=False)
    return ranges
