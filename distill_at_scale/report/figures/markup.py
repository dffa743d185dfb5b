"""HTML and SVG as nested calls. Plain strings are escaped, so that no name or message can break the page."""

from __future__ import annotations

import html

Attribute = str | float | bool | None


class Markup(str):
    """A string of HTML, not to be escaped."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """Returns an element: ``tag("a", "more", href="#more", class_="dim")``.

    Args:
        name: Name of the element.
        children: Content; strings are escaped, :class:`Markup` is inserted as it is, None is skipped.
        attributes: ``_`` in names becomes ``-``, a trailing one is dropped (``class_``); None and False are skipped,
            True gives an attribute without a value, numbers are rounded to 0.01, below a screen's resolution.
    """
    given = "".join(_attribute(key.removesuffix("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in ("meta", "br", "input"):
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Concatenates children without an enclosing element; see :func:`tag`."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in children if c is not None))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else f"{round(value, 2):g}"
    return f' {name}="{html.escape(text)}"'


def id_of(*words: str) -> str:
    """Returns an element id of letters, digits and dashes."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else "-" for c in word) for word in words)


def picture(width: float, height: float, title: str, description: str, *children: Markup, class_: str = "") -> Markup:
    """Returns an SVG that scales with its container, with a label and a description for screen readers.

    Args:
        width, height: Size of the view box, in units in which text has size 12.
        title: Label, a few words.
        description: Content in one sentence.
        children: Content.
        class_: CSS classes.
    """
    # aria-label instead of <title>, which browsers would show as a tooltip over every point.
    return tag(
        "svg",
        tag("desc", description),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        class_=class_ or None,
    )
