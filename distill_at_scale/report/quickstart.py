"""Output of the quickstart: models, small datasets, the recommendation, and the HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.report.html import keep_report, show_report
from distill_at_scale.report.layout import grid, show
from distill_at_scale.report.recommendation import show_recommendation
from distill_at_scale.report.sweeps import show_sweep

if TYPE_CHECKING:
    from distill_at_scale.pipelines.quickstart import Quickstart

_QUICK_METRICS = ("ndcg@10", "hr@10", "ndcg@100", "hr@100", "psp@10", "auc")


def keep_quickstart(result: Quickstart) -> None:
    """Writes the HTML report."""
    keep_report(result.report)


def show_quickstart(result: Quickstart) -> None:
    """Prints one row per model, then the quality that small datasets keep, and the recommendation."""
    data = result.data
    rows = []
    for name, evaluation in result.evaluations.items():
        chosen = result.chosen[name]
        setting = f"{chosen.parameter}={chosen.chosen:g}" if chosen else ""
        rows.append([name, setting, *(f"{100 * evaluation.metrics[m]:.2f}" for m in _QUICK_METRICS)])
    show(
        f"{data['n_users']:,} users, {data['n_items']:,} items, {data['n_rows']:,} rows; test metrics in percent",
        grid(["model", "chosen", *_QUICK_METRICS], rows),
        "",
    )
    show_sweep(result.sweep)
    show("")
    show_recommendation(result.recommendation)
    show("")
    show_report(result.report)
    show(
        "",
        f"Done in {result.wall_s:.0f} s. The dataset: {data['uri']}; models and metrics are beside it.",
        "Your own log: das prepare --input FILES --output DATASET; das fit --help",
    )
