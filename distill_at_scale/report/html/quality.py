"""What every method keeps at every budget: a small picture for each method, the others faint behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_at_scale.report.html import numbers
from distill_at_scale.report.html.axes import Axis, frame
from distill_at_scale.report.html.markup import Markup, join, picture, tag
from distill_at_scale.report.words import several

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import Cell

_WIDTH, _HEIGHT = 300, 190


def panels(by_method: dict[str, list[Cell]], recommended: Cell | None, keep: float) -> Markup:
    """A picture for each method: share of ndcg@10 kept against the budget, with its intervals."""
    cells = [cell for group in by_method.values() for cell in group]
    budgets = sorted({cell.budget for cell in cells})
    x = Axis.around(budgets, 46, _WIDTH - 10, log=True)
    ends = [value for c in cells for value in (c.kept_low, c.kept, c.kept_high) if value is not None]
    y = Axis.around([*ends, keep, 1.0], _HEIGHT - 24, 8)
    lines = {method: _points(group, x, y) for method, group in by_method.items()}
    drawn = [
        tag(
            "div",
            tag("h3", method, _few(group)),
            picture(
                _WIDTH,
                _HEIGHT,
                f"{method}: share of ndcg@10 kept at each budget",
                "; ".join(f"{numbers.budget(c.budget)} keeps {numbers.percent(c.kept)}" for c in group) + ".",
                frame(x, y, budgets, y.ticks(6), numbers.budget, lambda share: numbers.percent(share, 0)),
                tag("line", x1=x.start, x2=x.end, y1=y.at(1), y2=y.at(1), class_="full"),
                tag("line", x1=x.start, x2=x.end, y1=y.at(keep), y2=y.at(keep), class_="goal"),
                *(tag("polyline", points=line, class_="others") for name, line in lines.items() if name != method),
                *(_whisker(cell, x, y) for cell in group),
                tag("polyline", points=lines[method], class_="own"),
                *(_dot(cell, x, y, cell == recommended) for cell in group),
            ),
        )
        for method, group in by_method.items()
    ]
    return tag("div", *drawn, class_="panels")


def _few(cells: Sequence[Cell]) -> Markup | None:
    """On which models alone a method is measured, where they are others than of most."""
    others: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        if not cell.common:
            others.setdefault(tuple(cell.models), []).append(numbers.budget(cell.budget))
    told = [
        f"{several(models)} alone" + ("" if len(budgets) == len(cells) else f" at {several(budgets)}")
        for models, budgets in others.items()
    ]
    return tag("small", f" {'; '.join(told)}", class_="dim") if told else None


def _points(cells: Sequence[Cell], x: Axis, y: Axis) -> str:
    return " ".join(f"{x.at(cell.budget):.1f},{y.at(cell.kept):.1f}" for cell in cells)


def _whisker(cell: Cell, x: Axis, y: Axis) -> Markup:
    if cell.kept_low is None or cell.kept_high is None:
        return Markup()
    place, low, high = x.at(cell.budget), y.at(cell.kept_low), y.at(cell.kept_high)
    caps = [tag("line", x1=place - 3, x2=place + 3, y1=end, y2=end, class_="whisker") for end in (low, high)]
    return join(tag("line", x1=place, x2=place, y1=low, y2=high, class_="whisker"), *caps)


def _dot(cell: Cell, x: Axis, y: Axis, chosen: bool) -> Markup:
    place = {"cx": x.at(cell.budget), "cy": y.at(cell.kept)}
    between = numbers.interval(cell.kept_low, cell.kept_high, cell.users_only)
    tip = tag("title", f"{cell.method}, {numbers.budget(cell.budget)}: keeps {numbers.percent(cell.kept)} ({between})")
    return join(
        tag("circle", tip, r=4, class_="dot", **place), tag("circle", r=8, class_="ring", **place) if chosen else None
    )
