"""What the verbs show: tables on a terminal, and figures."""

from distill_at_scale.report.console import (
    checks_json,
    fetched_json,
    show_checks,
    show_comparison,
    show_dataset,
    show_distilled,
    show_evaluation,
    show_export,
    show_fetched,
    show_fit,
    show_quickstart,
    show_samples,
)
from distill_at_scale.report.plots import comparison_svg, keep_comparison

__all__ = [
    "checks_json",
    "comparison_svg",
    "fetched_json",
    "keep_comparison",
    "show_checks",
    "show_comparison",
    "show_dataset",
    "show_distilled",
    "show_evaluation",
    "show_export",
    "show_fetched",
    "show_fit",
    "show_quickstart",
    "show_samples",
]
