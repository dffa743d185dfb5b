"""What a sweep found, as the command line, the report and the recommendation read it."""

from __future__ import annotations

from typing import Any

import polars as pl

from distill_at_scale.pipelines.runtime.results import Result


class SweepResult(Result):
    """What a sweep found; every trial is a row of ``<uri>/trials.parquet``."""

    ok: bool
    """Whether no trial failed, and any left are left for the time budget; otherwise `das sweep` exits with 1."""
    uri: str
    data: dict[str, Any]
    """Description of the full dataset: uri, fingerprint, train rows, share of the test rows that a draw among equal
    times chose"""
    methods: list[str]
    budgets: list[float]
    models: list[str]
    seeds: int
    trials: int
    done: int
    failed: int
    left: int
    """Number of trials that did not run because the time budget was used up."""
    failures: dict[str, int]
    """reason -> trials"""
    fits: int
    """Number of fits that the trials needed; identical ones ran once."""
    searched: dict[str, dict[str, float]]
    """model or distiller -> the settings that a search found"""
    left_out: list[str]
    """What was asked for and cannot be, as sentences."""
    notes: list[str]
    """What to know of the figures, as sentences."""
    metric: str
    """Metric whose kept share is reported, and by which models and distillers selected settings on validation rows."""
    cells: list[dict[str, Any]]
    """What every method keeps at every budget; see :func:`distill_at_scale.genie.trials.cells`"""
    wall_s: float

    def headline(self) -> str:
        """How much of the sweep is done."""
        left = f", {self.left:,} left" if self.left else ""
        return f"{self.done:,} of {self.trials:,} trials done, {self.failed:,} failed{left}, at {self.uri}"

    def to_frame(self) -> pl.DataFrame:
        """What every method keeps at every budget; see :func:`distill_at_scale.genie.trials.cells`."""
        return pl.DataFrame(self.cells, infer_schema_length=None)
