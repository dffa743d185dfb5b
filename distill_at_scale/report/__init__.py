"""What the verbs show: tables on a terminal."""

from distill_at_scale.report.console import (
    checks_json,
    fetched_json,
    show_checks,
    show_dataset,
    show_evaluation,
    show_fetched,
    show_fit,
    show_quickstart,
    show_samples,
)

__all__ = [
    "checks_json",
    "fetched_json",
    "show_checks",
    "show_dataset",
    "show_evaluation",
    "show_fetched",
    "show_fit",
    "show_quickstart",
    "show_samples",
]
