"""Placement of labels beside points without overlaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import hypot

from distill_at_scale.report.figures.axes import CHARACTER, LINE
from distill_at_scale.report.figures.markup import Markup, join, tag

Spot = tuple[float, float]
"""X and y in a picture."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_STEP = 6.0
_FAR = (24.0, 44.0, 66.0, 90.0, 120.0, 150.0)
"""Distances tried for a label that does not fit beside its point; a leader line then joins the two."""


def labels(
    named: Sequence[tuple[str, Spot]], covered: Sequence[Box], better_free: Sequence[Box], inside: Box
) -> list[Markup]:
    """Draws labels beside their points.

    Args:
        named: (label, position of the point), most important first; a label without a free position is left out.
        covered: Areas that no label may cover; labels never cover each other.
        better_free: Areas that labels cover only if no other position is free.
        inside: Area in which all labels must lie.
    """
    taken, drawn = list(covered), []
    for name, spot in named:
        width = CHARACTER * len(name)
        boxes = [(left, top, left + width, top + LINE) for left, top in _places(spot, width)]
        free = [box for box in boxes if _within(box, inside) and not _touches(box, taken)]
        if free:
            box = next((box for box in free if not _touches(box, better_free)), free[0])
            taken.append(box)
            drawn.append(join(_leader(spot, box), tag("text", name, x=box[0], y=box[1] + 12, class_="label")))
    return drawn


def around(spot: Spot, radius: float) -> Box:
    """Returns the square of half-width ``radius`` around a point."""
    x, y = spot
    return (x - radius, y - radius, x + radius, y + radius)


def along(spots: Sequence[Spot]) -> list[Box]:
    """Returns small squares that cover the line through ``spots``."""
    found = []
    for (x, y), (end_x, end_y) in pairwise(spots):
        steps = max(1, round(hypot(end_x - x, end_y - y) / _STEP))
        found += [around((x + (end_x - x) * k / steps, y + (end_y - y) * k / steps), 2) for k in range(steps + 1)]
    return found


def _places(spot: Spot, width: float) -> Iterator[Spot]:
    """Yields the upper left corners of candidate boxes around a point, the best first."""
    x, y = spot
    yield from ((x + 11, y - LINE / 2), (x - 11 - width, y - LINE / 2))
    yield from ((x + shift, y + 10) for shift in (0.0, -width / 2, -width))
    yield from ((x + shift, y - 10 - LINE) for shift in (-width, -width / 2, 0.0))
    for far in _FAR:
        yield from ((x + shift, y + far) for shift in (0.0, 20.0, -width / 2, -width))
        yield from ((x + shift, y - far - LINE) for shift in (-width, -width / 2, -20.0, 0.0))


def _leader(spot: Spot, box: Box) -> Markup | None:
    """Returns a line from a point to its label, or None if they are adjacent."""
    x, y = min(max(spot[0], box[0]), box[2]), min(max(spot[1], box[1]), box[3])
    if hypot(x - spot[0], y - spot[1]) < _FAR[0] - 1:
        return None
    return tag("line", x1=spot[0], y1=spot[1], x2=x, y2=y, class_="leader")


def _touches(box: Box, others: Sequence[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def _within(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]
