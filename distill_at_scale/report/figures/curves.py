"""Learning curves: a picture for each model, what was measured as dots, the forecast as a line in its band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.axes import LINE, Axis, frame
from distill_at_scale.report.figures.markup import Markup, picture, tag
from distill_at_scale.report.figures.multiples import HEIGHT, WIDTH, Point, whisker

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 22.0, 2 * LINE + 12


@dataclass(frozen=True)
class Curve:
    """The learning curve of one model.

    Attributes:
        measured: The rungs.
        forecast: The curve with its intervals, by ascending x; the last point is that of all rows.
        enough: (x, label) of a budget that is enough; None if there is none.
    """

    measured: Sequence[Point]
    forecast: Sequence[Point]
    enough: tuple[float, str] | None = None


@dataclass(frozen=True)
class Curves:
    """Pictures of curves with the same axes.

    Attributes:
        title: Title of the pictures; the label for screen readers is the series' name followed by it.
        series: Curves by name, in the order of the pictures.
        x_title, y_title: Titles of the axes, with units.
    """

    title: str
    series: Mapping[str, Curve]
    x_title: str
    y_title: str

    def pictures(self) -> dict[str, Markup]:
        """Returns the pictures by name."""
        points = [point for curve in self.series.values() for point in (*curve.measured, *curve.forecast)]
        x = Axis.around([point.x for point in points], _LEFT, WIDTH - _RIGHT, log=True)
        ends = [value for point in points for value in (point.low, point.y, point.high) if value is not None]
        y = Axis.around(ends, HEIGHT - _BOTTOM, _TOP)
        return {name: self._picture(name, curve, x, y) for name, curve in self.series.items()}

    def _picture(self, name: str, curve: Curve, x: Axis, y: Axis) -> Markup:
        end = curve.forecast[-1]
        told = [f"{numbers.budget(point.x)} of the rows: {numbers.plain(point.y, 4)}" for point in curve.measured]
        told.append(f"all rows, forecast: {end.tip}")
        line = " ".join(f"{x.at(p.x):.1f},{y.at(p.y):.1f}" for p in curve.forecast)
        upper = [f"{x.at(p.x):.1f},{y.at(p.high):.1f}" for p in curve.forecast if p.high is not None]
        lower = [f"{x.at(p.x):.1f},{y.at(p.low):.1f}" for p in reversed(curve.forecast) if p.low is not None]
        place = {"cx": x.at(end.x), "cy": y.at(end.y)}
        drawn = [
            frame(x, y, x.ticks(5), y.ticks(6), numbers.budget, numbers.plain, self.x_title, self.y_title),
            tag("polygon", points=" ".join([*upper, *lower]), class_="band"),
            *self._enough(curve, x, y),
            tag("polyline", points=line, class_="own"),
            *(whisker(x.at(p.x), y, p.low, p.high) for p in curve.measured),
            *(
                tag("circle", tag("title", p.tip), cx=x.at(p.x), cy=y.at(p.y), r=3, class_="dot")
                for p in curve.measured
            ),
            tag("circle", tag("title", end.tip), r=4, class_="ring", **place),
        ]
        return picture(WIDTH, HEIGHT, f"{name}: {self.title}", f"{'; '.join(told)}.", *drawn)

    def _enough(self, curve: Curve, x: Axis, y: Axis) -> list[Markup]:
        if curve.enough is None:
            return []
        at, label = curve.enough
        place = x.at(at)
        # Text ends at the line where there is more room left of it.
        left = place > (x.start + x.end) / 2
        text = {"x": place - 4 if left else place + 4, "y": y.start - 6, "class_": "label end" if left else "label"}
        return [tag("line", x1=place, x2=place, y1=y.start, y2=y.end, class_="goal"), tag("text", label, **text)]
