"""Cost against kept quality: one point per method and budget; the Pareto front is joined and labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.axes import LINE, Axis, frame
from distill_at_scale.report.figures.labels import along, around, labels
from distill_at_scale.report.figures.markup import Markup, join, picture, tag
from distill_at_scale.report.figures.multiples import whisker

_SIZES = {"narrow": (370.0, 360.0), "wide": (1000.0, 440.0)}


@dataclass(frozen=True)
class Point:
    """One method at one budget: cost (above 0), share kept, and its interval where known."""

    name: str
    cost: float
    kept: float
    on_front: bool
    chosen: bool
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scatter:
    """A scatter plot."""

    points: Sequence[Point]
    """Points of the plot."""
    full: float | None
    """Cost of the full data, whose kept share is 1; None if unknown."""
    keep: float | None
    """Requested share, drawn as a line; None: no line."""
    title: str
    """Title of the plot."""
    axis: str
    """Title of the cost axis, with its unit."""
    kept_axis: str
    """Title of the axis of the kept share, with its unit."""
    text: Callable[[float], str]
    """Format of a cost."""

    @property
    def front(self) -> list[Point]:
        """Points of the Pareto front, the cheapest first."""
        return sorted((p for p in self.points if p.on_front), key=lambda p: p.cost)

    def draw(self) -> Markup:
        """Draws the plot in two shapes, for narrow and for wide windows."""
        told = f"Pareto front: {'; '.join(map(self._told, self.front))}."
        shapes = _SIZES.items()
        return join(*(picture(w, h, self.title, told, *self._drawn(w, h), class_=name) for name, (w, h) in shapes))

    def _told(self, point: Point) -> str:
        return f"{point.name}: {self.text(point.cost)}, keeps {numbers.percent(point.kept)}"

    def _drawn(self, width: float, height: float) -> list[Markup]:
        named_first = [p for p in self.points if p.chosen]
        marked = [*self.front, *(p for p in named_first if not p.on_front)]
        x = Axis.around([*(p.cost for p in self.points), *([self.full] if self.full else [])], 48, width - 12, log=True)
        ends = [end for p in marked for end in (p.low, p.high) if end is not None]
        goal = [] if self.keep is None else [self.keep]
        y = Axis.around([*(p.kept for p in self.points), *ends, *goal, 1.0], height - 2 * LINE - 12, 22)
        spots = {p: (x.at(p.cost), y.at(p.kept)) for p in self.points}
        line = [spots[p] for p in self.front]
        behind = [p for p in self.points if not p.on_front]
        x_ticks, y_ticks = x.ticks(int(width / 75)), y.ticks(8)
        drawn = [
            frame(x, y, x_ticks, y_ticks, self.text, lambda v: numbers.percent(v, 0), self.axis, self.kept_axis),
            tag("line", x1=x.start, x2=x.end, y1=y.at(1), y2=y.at(1), class_="full"),
            *(tag("line", x1=x.start, x2=x.end, y1=y.at(v), y2=y.at(v), class_="goal") for v in goal),
            *(self._circle(p, spots[p], 3.5, "behind") for p in behind),
            tag("polyline", points=" ".join(f"{left:.1f},{top:.1f}" for left, top in line), class_="own"),
            *(whisker(spots[p][0], y, p.low, p.high) for p in marked),
            *(self._circle(p, spots[p], 4.5, "dot") for p in self.front),
            *(tag("circle", cx=spots[p][0], cy=spots[p][1], r=9, class_="ring") for p in named_first),
        ]
        covered = [*along(line), *(around(spot, 5) for spot in line), *(around(spots[p], 10) for p in named_first)]
        for point in marked:
            if point.low is not None and point.high is not None:
                covered += along([(spots[point][0], y.at(point.low)), (spots[point][0], y.at(point.high))])
        # The recommended point comes first, so that it keeps its label if not all fit.
        named = [(p.name, spots[p]) for p in named_first]
        if self.full:
            end = (x.at(self.full), y.at(1))
            drawn.append(self._cross(*end))
            covered.append(around(end, 7))
            named.append(("all rows", end))
        named += [(p.name, spots[p]) for p in self.front if not p.chosen]
        inside = (x.start, y.end, x.end, y.start)
        across = [(x.start, y.at(value), x.end, y.at(value) + 1) for value in (1.0, *goal)]
        return drawn + labels(named, covered, [*(around(spots[p], 4) for p in behind), *across], inside)

    def _circle(self, point: Point, spot: tuple[float, float], radius: float, class_: str) -> Markup:
        return tag("circle", tag("title", self._told(point)), cx=spot[0], cy=spot[1], r=radius, class_=class_)

    def _cross(self, x: float, y: float) -> Markup:
        return tag(
            "g",
            tag("title", f"all rows: {self.text(self.full or 0.0)}"),
            tag("line", x1=x - 5, x2=x + 5, y1=y - 5, y2=y + 5, class_="mark"),
            tag("line", x1=x - 5, x2=x + 5, y1=y + 5, y2=y - 5, class_="mark"),
        )
