"""Tables: plain ones, and heat tables, whose cells are coloured by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill_at_scale.report.figures.markup import Markup, tag


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    chosen: int | None = None,
    words: Sequence[str] = (),
) -> Markup:
    """Returns a table that scrolls horizontally if it is wider than the window; the first column names the rows.

    Args:
        caption: Caption of the table.
        columns: Headers of the columns.
        rows: Text of the cells.
        chosen: Position of the row to mark.
        words: Headers of the columns that hold text, not numbers.
    """
    classes = ["text" if column in words else None for column in columns]
    body = []
    for k, row in enumerate(rows):
        cells = [tag("td", text, class_=class_) for text, class_ in zip(row[1:], classes[1:])]
        body.append(tag("tr", tag("th", row[0], scope="row"), *cells, class_="chosen" if k == chosen else None))
    return _scrolling(caption, columns, classes, body)


def folded(summary: str, *content: Markup) -> Markup:
    """Returns content that opens when its summary is clicked."""
    return tag("details", tag("summary", summary), *content)


@dataclass(frozen=True)
class Heat:
    """A cell of a heat table.

    Attributes:
        text: Text of the cell.
        depth: Intensity of the colour, 0 to 1; negative: of the second colour; None: no colour.
        chosen: Whether the cell is marked.
    """

    text: str
    depth: float | None
    chosen: bool = False


def heat_table(caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Heat]]]) -> Markup:
    """Returns a table of coloured numbers."""
    body = [tag("tr", tag("th", name, scope="row"), *map(_heat, cells)) for name, cells in rows]
    return _scrolling(caption, columns, [None] * len(columns), body, "heat")


def _heat(cell: Heat) -> Markup:
    if cell.depth is None:
        return tag("td", cell.text)
    classes = [name for name, holds in (("below", cell.depth < 0), ("chosen", cell.chosen)) if holds]
    return tag("td", cell.text, class_=" ".join(classes) or None, style=f"--v:{min(abs(cell.depth), 1.0):.2f}")


def _scrolling(
    caption: str,
    columns: Sequence[str],
    classes: Sequence[str | None],
    body: Sequence[Markup],
    class_: str | None = None,
) -> Markup:
    head = tag("tr", *(tag("th", column, scope="col", class_=of) for column, of in zip(columns, classes)))
    filled = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_=class_)
    # tabindex lets keyboard users focus and scroll the table.
    return tag("div", filled, class_="scroll", tabindex="0", role="region", aria_label=caption)
