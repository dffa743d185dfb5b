"""Axes, ticks and the frame of a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_at_scale.report.figures.markup import Markup, join, tag

CHARACTER = 7.4
"""Upper bound of the mean width of a character at font size 12, in SVG units; fonts differ."""
LINE = 15.0
"""Height of a line of text."""


@dataclass(frozen=True)
class Axis:
    """Maps values to coordinates.

    Attributes:
        low, high: Values at both ends.
        start, end: Coordinates of both ends.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @staticmethod
    def around(values: Sequence[float], start: float, end: float, log: bool = False) -> Axis:
        """Returns an axis that covers all ``values`` with a margin on both sides."""
        low, high = min(values), max(values)
        if log:
            room = max((high / low) ** 0.05, 1.15)
            return Axis(low / room, high * room, start, end, True)
        room = max(0.05 * (high - low), 0.01)
        return Axis(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """Returns the coordinate of ``value``, clamped to the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Returns at most ``most`` round values."""
        return self._decades(most) if self.log else self._steps(most)

    def _steps(self, most: int) -> list[float]:
        power = math.floor(math.log10((self.high - self.low) / most))
        for step in (factor * 10.0**p for p in (power, power + 1) for factor in (1, 2, 5)):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                return [k * step for k in range(first, last + 1)]
        return []

    def _decades(self, most: int) -> list[float]:
        found: list[float] = []
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [f * 10.0**p for p in powers for f in factors if self.low <= f * 10.0**p <= self.high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]


def apart(places: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Filters (coordinate, text) pairs in order: drops those whose centred text would touch the previous one."""
    kept: list[tuple[float, str]] = []
    end = -math.inf
    for place, text in places:
        half = CHARACTER * len(text) / 2
        if place - half > end:
            kept.append((place, text))
            end = place + half + 4
    return kept


def frame(
    x: Axis,
    y: Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    x_title: str,
    y_title: str,
) -> Markup:
    """Draws grid lines, tick labels, and the titles of both axes.

    The title of y is horizontal, above its axis; it needs :data:`LINE` above ``y.end``. The title of x needs a bit more
    than twice :data:`LINE` below ``y.start``.
    """
    rows = [
        join(
            tag("line", x1=x.start, x2=x.end, y1=y.at(value), y2=y.at(value), class_="grid"),
            tag("text", y_text(value), x=x.start - 6, y=y.at(value) + 4, class_="end"),
        )
        for value in y_ticks
    ]
    columns = [tag("line", x1=x.at(value), x2=x.at(value), y1=y.start, y2=y.end, class_="grid") for value in x_ticks]
    labels = [
        tag("text", text, x=place, y=y.start + LINE + 2, class_="middle")
        for place, text in apart([(x.at(value), x_text(value)) for value in x_ticks])
    ]
    titles = [
        tag("text", x_title, x=(x.start + x.end) / 2, y=y.start + 2 * LINE + 4, class_="middle title"),
        tag("text", y_title, x=2, y=y.end - 9, class_="title"),
    ]
    return join(*rows, *columns, *labels, *titles)
