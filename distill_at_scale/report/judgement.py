"""What a small dataset is worth, on the terminal and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.report.html.plain_page import plain_page
from distill_at_scale.report.html.tables import table
from distill_at_scale.report.layout import facts, show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.sweeps.judgement import DatasetReport


def judgement_page(result: DatasetReport) -> str:
    """The answers as a page."""
    rows = [[one.question, one.told] for one in result.answers]
    sentence = f"{result.method}, {result.rows:,} rows: {result.dataset}"
    answers = table("Six questions about a small dataset", ["question", "answer"], rows, words=("answer",))
    return plain_page("What a small dataset is worth", sentence, answers)


def show_judgement(result: DatasetReport) -> None:
    """Prints the answers, and the location of the page."""
    show(facts(f"{result.method}, {result.rows:,} rows", [(one.question, one.told) for one in result.answers]))
    show(f"The report: {storage.redact(result.uri)}")
