"""Output of the verbs: tables for the terminal, figures and the HTML report."""

from distill_at_scale.report.comparison import comparison_svg, keep_comparison
from distill_at_scale.report.console import (
    checks_json,
    fetched_json,
    show_checks,
    show_comparison,
    show_dataset,
    show_distilled,
    show_evaluation,
    show_fetched,
    show_fit,
    show_samples,
)
from distill_at_scale.report.forecasts import forecast_svg, keep_forecast, show_forecast
from distill_at_scale.report.html import html_page, keep_report, show_report, write_report
from distill_at_scale.report.inspected import show_inspected
from distill_at_scale.report.outputs import (
    show_attributed,
    show_expansion,
    show_export,
    show_forgotten,
    show_job,
    show_predictions,
    show_result,
)
from distill_at_scale.report.plans import show_plan
from distill_at_scale.report.quickstart import keep_quickstart, show_quickstart
from distill_at_scale.report.recommendation import show_genie, show_recommendation
from distill_at_scale.report.settings import show_settings
from distill_at_scale.report.sweeps import show_sweep
from distill_at_scale.report.tuned import keep_tuned, show_tuned

__all__ = [
    "checks_json",
    "comparison_svg",
    "fetched_json",
    "forecast_svg",
    "html_page",
    "keep_comparison",
    "keep_forecast",
    "keep_quickstart",
    "keep_report",
    "keep_tuned",
    "show_attributed",
    "show_checks",
    "show_comparison",
    "show_dataset",
    "show_distilled",
    "show_evaluation",
    "show_expansion",
    "show_export",
    "show_fetched",
    "show_fit",
    "show_forecast",
    "show_forgotten",
    "show_genie",
    "show_inspected",
    "show_job",
    "show_plan",
    "show_predictions",
    "show_quickstart",
    "show_recommendation",
    "show_report",
    "show_result",
    "show_samples",
    "show_settings",
    "show_sweep",
    "show_tuned",
    "write_report",
]
