"""A page of tables and sentences that needs nothing but itself."""

from __future__ import annotations

from distill_at_scale.report.figures.document import stylesheet
from distill_at_scale.report.figures.markup import Markup, tag


def plain_page(title: str, sentence: str, *content: Markup) -> str:
    """Returns an HTML page.

    Args:
        title: Heading.
        sentence: What the page says, below the heading.
        content: The rest of its body.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", stylesheet(), _STYLE),
    )
    body = tag("main", tag("h1", title), tag("p", sentence), *content)
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


_STYLE = Markup(
    "body { font: 16px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink); margin: 2rem auto; "
    "max-width: 80rem; padding: 0 1rem; } table { border-collapse: collapse; margin: 1rem 0; } "
    "th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; } "
    "th:first-child, td.text, th.text { text-align: left; } figure { margin: 1rem 0; }"
)
