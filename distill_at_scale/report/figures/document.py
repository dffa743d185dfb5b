"""Figures as standalone SVG files with an embedded stylesheet; text stays text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

from distill_at_scale.report.figures.axes import CHARACTER
from distill_at_scale.report.figures.curves import Curves
from distill_at_scale.report.figures.markup import Markup, join, tag
from distill_at_scale.report.figures.multiples import HEIGHT, WIDTH, Multiples

_GAP, _HEAD, _MARGIN = 24.0, 24.0, 16.0


def stylesheet() -> Markup:
    """Returns the CSS of the figures, for pages and files."""
    return Markup(resources.files(__package__).joinpath("figures.css").read_text("utf-8"))


def svg_document(sections: Sequence[tuple[str, Multiples | Curves]], columns: int = 4) -> bytes:
    """Stacks figures in one SVG file, which follows the reader's light or dark mode.

    Args:
        sections: (heading, figure) pairs.
        columns: Largest number of pictures per row.
    """
    columns = max(1, min(columns, max(len(figure.series) for _, figure in sections)))
    wide = columns * WIDTH + (columns - 1) * _GAP
    # Headings have a larger font than the axes.
    width = 2 * _MARGIN + max(wide, *(1.3 * CHARACTER * len(heading) for heading, _ in sections))
    drawn, y = [], _MARGIN
    for heading, figure in sections:
        drawn.append(tag("text", heading, x=_MARGIN, y=y + 15, class_="heading"))
        y += _HEAD + 6
        for k, (name, shown) in enumerate(figure.pictures().items()):
            x = _MARGIN + (k % columns) * (WIDTH + _GAP)
            drawn.append(tag("text", name, x=x + 2, y=y + 15, class_="name"))
            drawn.append(_placed(shown, x, y + _HEAD))
            if k % columns == columns - 1 or k == len(figure.series) - 1:
                y += _HEAD + HEIGHT + _GAP
    background = tag("rect", width="100%", height="100%", class_="paper")
    content = join(tag("style", stylesheet()), background, *drawn)
    box: Mapping[str, str | float] = {"viewBox": f"0 0 {width:g} {y:g}", "width": width, "height": y}
    return tag("svg", content, xmlns="http://www.w3.org/2000/svg", **box).encode()


def _placed(shown: Markup, x: float, y: float) -> Markup:
    """Sets position and size of a picture inside another one."""
    return Markup(shown.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{WIDTH:g}" height="{HEIGHT:g}" ', 1))
