"""HTML and SVG as nested calls: whatever is not markup yet is escaped, so that no name or reason can break the page."""

from __future__ import annotations

import html

Attribute = str | float | bool | None


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """An element: ``tag("a", "more", href="#more", class_="dim")``.

    Args:
        name: Name of the element.
        children: strings are escaped, :class:`Markup` is taken as it is, None left out.
        attributes: ``_`` becomes ``-``, a final one is dropped (``class_``); None and False are left out, True stands
            alone, other numbers are rounded to a hundredth, which is finer than a screen shows.
    """
    given = "".join(_attribute(key.removesuffix("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in ("meta", "br", "input"):
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Children of no element, one after the other."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in children if c is not None))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else f"{round(value, 2):g}"
    return f' {name}="{html.escape(text)}"'


def id_of(*words: str) -> str:
    """A name as an id, of letters, digits and dashes."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else "-" for c in word) for word in words)


def picture(width: float, height: float, title: str, description: str, *children: Markup, class_: str = "") -> Markup:
    """An SVG that grows and shrinks with its place, with a name and a description for those who do not see it.

    Args:
        width, height: Size in its own coordinates, at whose scale text has 12 pixels.
        title: what it is, in a few words.
        description: what it shows, in a sentence.
        children: what is drawn.
        class_: CSS classes.
    """
    # aria-label rather than a <title> of the whole, which browsers would show as a tooltip over every point.
    return tag(
        "svg",
        tag("desc", description),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        class_=class_ or None,
    )
