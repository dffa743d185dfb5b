"""The HTML report of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_at_scale.data import storage
from distill_at_scale.report.html.page import headline, html_page
from distill_at_scale.report.judgement import judgement_page, show_judgement
from distill_at_scale.report.layout import show

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from distill_at_scale.pipelines.report import ReportResult
    from distill_at_scale.pipelines.sweeps.judgement import DatasetReport

__all__ = ["headline", "html_page", "keep_report", "show_report", "write_report"]


def write_report(**settings: Any) -> Any:
    """``das report`` as a function: collects the results of a sweep and writes the page.

    Args:
        settings: Fields of :class:`~distill_at_scale.config.ReportConfig`.

    Returns:
        A :class:`~distill_at_scale.pipelines.report.ReportResult`, or for a small dataset a
        :class:`~distill_at_scale.pipelines.sweeps.judgement.DatasetReport`.

    Raises:
        DasError: The sweep does not exist or has no results.
        SettingError: A setting is unknown or wrong.
    """
    # Imported here, since the command line's help imports this module and polars takes a second to load.
    from distill_at_scale.pipelines.report import report

    result = report(**settings)
    keep_report(result)
    return result


def keep_report(result: ReportResult | DatasetReport) -> None:
    """Writes the page to its output URI."""
    page = judgement_page(result) if _is_of_dataset(result) else html_page(result)
    storage.write_bytes(result.uri, page.encode())


def _is_of_dataset(result: ReportResult | DatasetReport) -> TypeIs[DatasetReport]:
    return hasattr(result, "answers")


def show_report(result: ReportResult | DatasetReport) -> None:
    """Prints the recommendation or the answers, and the location of the page."""
    if _is_of_dataset(result):
        show_judgement(result)
        return
    failed = f", {len(result.failed)} of them failed" if result.failed else ""
    show(headline(result))
    show(f"{result.trials:,} trials{failed}; the report: {storage.redact(result.uri)}")
