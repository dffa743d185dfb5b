"""Rounds of training until making a small dataset pays off; one row per method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.axes import Axis, apart
from distill_at_scale.report.figures.markup import Markup, join, picture, tag

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import Cell

_ROW = 24.0
_WIDTHS = {"narrow": 370.0, "wide": 1000.0}
_FEWEST = 0.01
"""Lower end of the axis, in rounds; smaller values are drawn here."""


def payback(by_method: dict[str, list[Cell]], recommended: Cell | None) -> Markup:
    """Draws one point per method and budget on a scale of rounds; budgets that never pay off are drawn to its right."""
    budgets = sorted({cell.budget for group in by_method.values() for cell in group})
    return join(
        _legend(budgets),
        *(_picture(shape, width, by_method, budgets, recommended) for shape, width in _WIDTHS.items()),
    )


def _picture(
    shape: str, width: float, by_method: dict[str, list[Cell]], budgets: list[float], recommended: Cell | None
) -> Markup:
    longest = 7.4 * max(map(len, by_method))
    # In the narrow shape, names are above their rows; beside them they would take half of the width.
    left, row = (16.0, 2 * _ROW) if shape == "narrow" else (longest + 30, _ROW)
    counts = [cell.pays_after for group in by_method.values() for cell in group]
    known = [count for count in counts if count is not None]
    never = 15.0 * len(budgets) + 16 if None in counts else 0.0
    x = Axis.around([_FEWEST, 1.0, *(max(_FEWEST, count) for count in known)], left, width - never - 12, log=True)
    bottom = 8 + row * len(by_method)
    ticks = apart([(x.at(t), f"≤ {t:g}" if t == _FEWEST else f"{t:g}") for t in x.ticks(int(width / 60))])
    drawn = [tag("line", x1=x.at(t), x2=x.at(t), y1=8, y2=bottom, class_="grid") for t in x.ticks(int(width / 60))]
    drawn += [tag("text", text, x=place, y=bottom + 17, class_="middle") for place, text in ticks]
    drawn.append(
        tag(
            "text",
            "rounds of training until it pays off (log scale)",
            x=(x.start + x.end) / 2,
            y=bottom + 36,
            class_="middle title",
        )
    )
    if never:
        drawn.append(tag("text", "never", x=width - never / 2, y=bottom + 17, class_="middle"))
    for k, (method, cells) in enumerate(by_method.items()):
        y = 8 + (k + 1) * row - _ROW / 2
        drawn.append(tag("line", x1=left, x2=width, y1=y, y2=y, class_="grid"))
        if shape == "narrow":
            drawn.append(tag("text", method, x=4, y=y - _ROW / 2 - 2, class_="label"))
        else:
            drawn.append(tag("text", method, x=left - 20, y=y + 4, class_="label end"))
        for cell in sorted(cells, key=lambda c: -c.budget):
            step = budgets.index(cell.budget)
            place = width - never + 16 + 15 * step if cell.pays_after is None else x.at(max(cell.pays_after, _FEWEST))
            drawn.append(_dot(place, y, step, len(budgets), _told(cell)))
            if cell == recommended:
                drawn.append(tag("circle", cx=place, cy=y, r=_radius(step, len(budgets)) + 4, class_="ring"))
    told = "; ".join(_told(cell) for cells in by_method.values() for cell in cells)
    return picture(
        width,
        bottom + 44,
        "Rounds of training until a small dataset pays off",
        f"{told}.",
        *drawn,
        class_=shape,
    )


def _told(cell: Cell) -> str:
    after = "never pays off" if cell.pays_after is None else f"pays off after {numbers.rounds(cell.pays_after)} rounds"
    return f"{cell.method}, {numbers.budget(cell.budget)}: {after}"


def _radius(step: int, steps: int) -> float:
    return 3.5 + 3.0 * step / max(steps - 1, 1)


def _dot(x: float, y: float, step: int, steps: int, tip: str | None = None) -> Markup:
    """Draws a point; the larger the budget, the larger and darker it is."""
    depth = 20 + 80 * step / max(steps - 1, 1)
    told = None if tip is None else tag("title", tip)
    return tag("circle", told, cx=x, cy=y, r=_radius(step, steps), class_="step", style=f"--v:{depth:.0f}")


def _legend(budgets: list[float]) -> Markup:
    entries = [
        tag(
            "li",
            tag("svg", _dot(11, 8, k, len(budgets)), viewBox="0 0 22 16", aria_hidden="true"),
            numbers.budget(budget),
        )
        for k, budget in enumerate(budgets)
    ]
    return tag("ul", *entries, class_="legend")
