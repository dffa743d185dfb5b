"""Small multiples: one picture per series, all with the same axes, and the other series faint in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.axes import LINE, Axis, frame
from distill_at_scale.report.figures.markup import Markup, join, picture, tag

WIDTH, HEIGHT = 300.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 22.0, 2 * LINE + 12


@dataclass(frozen=True)
class Point:
    """A value with its interval.

    Attributes:
        x: Position, above 0; the axis is logarithmic.
        y: Value.
        low, high: Ends of the interval; None if there is none.
        tip: Tooltip.
        chosen: Whether a ring marks the point.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Multiples:
    """One picture per series.

    Attributes:
        id: Id of the figure, unique in its document.
        title: Title of the pictures; the label for screen readers is the series' name followed by it.
        series: Points by name, in the order of the pictures.
        x_title: Title of the horizontal axis, with its unit.
        x_titles: Different titles of the horizontal axis for some series.
        y_title: Title of the vertical axis, with its unit.
        lines: (value, CSS class) of horizontal lines; the classes are ``full`` and ``goal``.
        x_text, y_text: Formats of the tick labels.
    """

    id: str
    title: str
    series: Mapping[str, Sequence[Point]]
    x_title: str
    y_title: str
    lines: Sequence[tuple[float, str]] = ()
    x_titles: Mapping[str, str] | None = None
    x_text: Callable[[float], str] = numbers.budget
    y_text: Callable[[float], str] = lambda share: numbers.percent(share, 0)

    def pictures(self) -> dict[str, Markup]:
        """Returns the pictures by name. The others refer to elements of the first, so put all into one document."""
        points = [point for group in self.series.values() for point in group]
        places = sorted({point.x for point in points})
        x = Axis.around(places, _LEFT, WIDTH - _RIGHT, log=True)
        ends = [value for p in points for value in (p.low, p.y, p.high) if value is not None]
        y = Axis.around([*ends, *(value for value, _ in self.lines)], HEIGHT - _BOTTOM, _TOP)
        ticks = places if len(places) <= 8 else x.ticks(6)
        every = [_faint(group, x, y) for group in self.series.values()]
        others = join(tag("g", *every, class_="others", id=self.id))
        drawn: dict[str, Markup] = {}
        for name, group in self.series.items():
            x_title = (self.x_titles or {}).get(name, self.x_title)
            drawn[name] = picture(
                WIDTH,
                HEIGHT,
                f"{name}: {self.title}",
                "; ".join(point.tip or f"{self.x_text(point.x)}: {self.y_text(point.y)}" for point in group) + ".",
                frame(x, y, ticks, y.ticks(6), self.x_text, self.y_text, x_title, self.y_title),
                *(tag("line", x1=x.start, x2=x.end, y1=y.at(v), y2=y.at(v), class_=kind) for v, kind in self.lines),
                tag("use", href=f"#{self.id}") if drawn else others,
                _band(group, x, y),
                tag("polyline", points=_points(group, x, y), class_="own"),
                *(whisker(x.at(p.x), y, p.low, p.high) for p in group),
                *(_dot(point, x, y) for point in group),
            )
        return drawn


def whisker(place: float, y: Axis, low: float | None, high: float | None) -> Markup:
    """Draws an interval as a vertical line with caps wider than any dot; empty if there is none."""
    if low is None or high is None:
        return Markup()
    bottom, top = y.at(low), y.at(high)
    caps = [tag("line", x1=place - 5, x2=place + 5, y1=end, y2=end, class_="whisker") for end in (bottom, top)]
    return join(tag("line", x1=place, x2=place, y1=bottom, y2=top, class_="whisker"), *caps)


def _faint(points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """Draws a background series: a line, or a dot for a single point."""
    if len(points) > 1:
        return tag("polyline", points=_points(points, x, y))
    return join(*(tag("circle", cx=x.at(point.x), cy=y.at(point.y), r=2) for point in points))


def _points(points: Sequence[Point], x: Axis, y: Axis) -> str:
    return " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in points)


def _band(points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """Draws the area between the ends of the intervals; empty if fewer than two points have one."""
    known = [(p.x, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if len(known) < 2:
        return Markup()
    upper = [f"{x.at(place):.1f},{y.at(high):.1f}" for place, _, high in known]
    lower = [f"{x.at(place):.1f},{y.at(low):.1f}" for place, low, _ in reversed(known)]
    return tag("polygon", points=" ".join([*upper, *lower]), class_="band")


def _dot(point: Point, x: Axis, y: Axis) -> Markup:
    place = {"cx": x.at(point.x), "cy": y.at(point.y)}
    return join(
        tag("circle", tag("title", point.tip) if point.tip else None, r=3, class_="dot", **place),
        tag("circle", r=8, class_="ring", **place) if point.chosen else None,
    )
