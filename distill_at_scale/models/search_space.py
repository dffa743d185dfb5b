"""Search space of hyper-parameters: ranges around the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``, drawn uniformly, or uniformly in their logarithms."""

    low: float
    high: float
    log: bool

    def at(self, position: float) -> float:
        """Returns the value at a position from 0 (``low``) to 1 (``high``)."""
        if self.log:
            return float(self.low ** (1.0 - position) * self.high**position)
        return self.low + position * (self.high - self.low)


class IntegerRange(Range):
    """Whole numbers between ``low`` and ``high``."""

    def at(self, position: float) -> int:
        return max(round(super().at(position)), 1)


# Rates and weights are searched within a factor of their default, shares within a fixed range.
_FACTORS = {"learning_rate": 8.0, "beta": 8.0}
_SHARES = {"dropout": (0.05, 0.7), "hide": (0.2, 0.7)}
# What `tune` searches besides: weights and sizes within a factor of their default, and what a model would otherwise
# select from its grid.
_TUNED = {"alpha": 4.0, "unseen": 4.0, "dim": 2.0}
_TUNED_SHARES = {"shrinkage": (0.0, 0.9)}
_SELECTED = ("lam", "rank")
_BEYOND_GRID = 2.0


def values_tried(config: Any) -> int:
    """Returns how many values of its grid a model judges on validation rows; 0 if the setting is given or has none.

    Args:
        config: Settings of the model.
    """
    selected = [name for name in _SELECTED if name in type(config).model_fields]
    if not hasattr(config, "grid") or any(getattr(config, name) is not None for name in selected):
        return 0
    return len(config.grid)


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


def tuning_space(settings: Mapping[str, Any]) -> dict[str, Range]:
    """Returns the ranges of all settings of a model that `tune` searches.

    They are those of :func:`search_space`, sizes and weights, and what the model would select from its ``grid`` on
    validation rows itself: from half of the smallest to twice the largest value of the grid.

    Args:
        settings: All settings of the model, by name.
    """
    numbers = {name: value for name, value in settings.items() if isinstance(value, int | float)}
    ranges = search_space({name: float(value) for name, value in numbers.items()})
    for name, value in numbers.items():
        if name in _TUNED and value > 0:
            kind = IntegerRange if isinstance(value, int) else Range
            ranges[name] = kind(value / _TUNED[name], value * _TUNED[name], log=True)
        elif name in _TUNED_SHARES:
            low, high = _TUNED_SHARES[name]
            ranges[name] = Range(min(low, value), max(high, value), log=False)
    grid = settings.get("grid")
    for name in _SELECTED:
        if grid and name in settings and settings[name] is None:
            kind = IntegerRange if all(isinstance(value, int) for value in grid) and name == "rank" else Range
            ranges[name] = kind(min(grid) / _BEYOND_GRID, max(grid) * _BEYOND_GRID, log=True)
    return ranges
