"""Cost against what is kept: every method and budget a point, those that no other beats joined and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_at_scale.report.html import numbers
from distill_at_scale.report.html.axes import Axis, frame
from distill_at_scale.report.html.labels import along, around, labels
from distill_at_scale.report.html.markup import Markup, join, picture, tag

_SIZES = {"narrow": (370.0, 360.0), "wide": (1000.0, 440.0)}


@dataclass(frozen=True)
class Point:
    """One method at one budget: what it costs (above 0) and what it keeps."""

    name: str
    cost: float
    kept: float
    on_front: bool
    chosen: bool


@dataclass(frozen=True)
class Scatter:
    """A picture of points.

    Attributes:
        points: what is drawn.
        full: cost of the full data, which keep all; None where it is not known.
        keep: share that was asked for.
        title: of the picture.
        axis: what the cost is.
        text: a cost in words.
    """

    points: Sequence[Point]
    full: float | None
    keep: float
    title: str
    axis: str
    text: Callable[[float], str]

    @property
    def front(self) -> list[Point]:
        """Those that no other beats, the cheapest first."""
        return sorted((p for p in self.points if p.on_front), key=lambda p: p.cost)

    def draw(self) -> Markup:
        """The picture in two shapes, for narrow and for wide windows."""
        told = f"Beaten by no other: {'; '.join(map(self._told, self.front))}."
        shapes = _SIZES.items()
        return join(*(picture(w, h, self.title, told, *self._drawn(w, h), class_=name) for name, (w, h) in shapes))

    def _told(self, point: Point) -> str:
        return f"{point.name}: {self.text(point.cost)}, keeps {numbers.percent(point.kept)}"

    def _drawn(self, width: float, height: float) -> list[Markup]:
        x = Axis.around([*(p.cost for p in self.points), *([self.full] if self.full else [])], 48, width - 12, log=True)
        y = Axis.around([*(p.kept for p in self.points), self.keep, 1.0], height - 44, 10)
        spots = {p: (x.at(p.cost), y.at(p.kept)) for p in self.points}
        line = [spots[p] for p in self.front]
        behind = [p for p in self.points if not p.on_front]
        chosen = [p for p in self.points if p.chosen]
        drawn = [
            frame(x, y, x.ticks(int(width / 75)), y.ticks(8), self.text, lambda share: numbers.percent(share, 0)),
            tag("text", self.axis, x=(x.start + x.end) / 2, y=height - 6, class_="middle"),
            tag("line", x1=x.start, x2=x.end, y1=y.at(1), y2=y.at(1), class_="full"),
            tag("line", x1=x.start, x2=x.end, y1=y.at(self.keep), y2=y.at(self.keep), class_="goal"),
            *(self._circle(p, spots[p], 3.5, "behind") for p in behind),
            tag("polyline", points=" ".join(f"{left:.1f},{top:.1f}" for left, top in line), class_="own"),
            *(self._circle(p, spots[p], 4.5, "dot") for p in self.front),
            *(tag("circle", cx=spots[p][0], cy=spots[p][1], r=9, class_="ring") for p in chosen),
        ]
        covered = [*along(line), *(around(spot, 5) for spot in line), *(around(spots[p], 10) for p in chosen)]
        # The recommended one first: where there is no room for all names, it has one.
        named = [(p.name, spots[p]) for p in chosen]
        if self.full:
            end = (x.at(self.full), y.at(1))
            drawn.append(self._cross(*end))
            covered.append(around(end, 7))
            named.append(("all rows", end))
        named += [(p.name, spots[p]) for p in self.front if not p.chosen]
        inside = (x.start, y.end, x.end, y.start)
        return drawn + labels(named, covered, [around(spots[p], 4) for p in behind], inside)

    def _circle(self, point: Point, spot: tuple[float, float], radius: float, class_: str) -> Markup:
        return tag("circle", tag("title", self._told(point)), cx=spot[0], cy=spot[1], r=radius, class_=class_)

    def _cross(self, x: float, y: float) -> Markup:
        return tag(
            "g",
            tag("title", f"all rows: {self.text(self.full or 0.0)}"),
            tag("line", x1=x - 5, x2=x + 5, y1=y - 5, y2=y + 5, class_="mark"),
            tag("line", x1=x - 5, x2=x + 5, y1=y + 5, y2=y - 5, class_="mark"),
        )
