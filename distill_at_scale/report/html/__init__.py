"""The HTML report of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_at_scale.data import storage
from distill_at_scale.report.html.page import headline, html_page
from distill_at_scale.report.layout import show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import ReportResult

__all__ = ["headline", "html_page", "keep_report", "show_report", "write_report"]


def write_report(**settings: Any) -> ReportResult:
    """``das report`` as a function: gathers what a sweep found and writes the page.

    Args:
        settings: those of :class:`~distill_at_scale.config.ReportConfig`.

    Raises:
        DasError: no sweep, no results, an unknown setting.
    """
    # Loaded only here: the command line's help reads this module, and tables take a second to load.
    from distill_at_scale.pipelines.report import report

    result = report(**settings)
    keep_report(result)
    return result


def keep_report(result: ReportResult) -> None:
    """Writes the page to where it was asked for."""
    storage.write_bytes(result.uri, html_page(result).encode())


def show_report(result: ReportResult) -> None:
    """The recommendation, and where the page lies."""
    failed = f", {len(result.failed)} of them failed" if result.failed else ""
    show(headline(result))
    show(f"{result.trials:,} trials{failed}; the report: {storage.redact(result.uri)}")
