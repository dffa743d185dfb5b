"""Result of a sweep, for the command line, the report and the recommendation."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from distill_at_scale.data.dataset_ref import EvaluatedDataRef
from distill_at_scale.genie.cells import CellSummary as CellSummary
from distill_at_scale.pipelines.runtime.results import Result


class SweepResult(Result):
    """Result of a sweep; every trial is a row of ``<uri>/trials.parquet``."""

    ok: bool
    """Whether no trial failed, and only the time budget left trials undone; otherwise `das sweep` exits with 1."""
    uri: str
    data: EvaluatedDataRef
    """The full dataset."""
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
    """Reason -> number of failed trials."""
    fits: int
    """Number of fits that the trials needed; identical ones ran once."""
    searched: dict[str, dict[str, float]]
    """Model or distiller -> settings found by a search."""
    left_out: list[str]
    """Requested combinations that are impossible, as sentences."""
    notes: list[str]
    """Notes on the results, as sentences."""
    metric: str
    """Metric whose kept share is reported, and by which models and distillers selected settings on validation rows."""
    cells: list[CellSummary]
    """Summary of each method at each budget."""
    wall_s: float

    def headline(self) -> str:
        """Summary of the progress."""
        left = f", {self.left:,} left" if self.left else ""
        return f"{self.done:,} of {self.trials:,} trials done, {self.failed:,} failed{left}, at {self.uri}"

    def to_frame(self) -> pl.DataFrame:
        """Returns the summary of each method at each budget; see :class:`~distill_at_scale.genie.cells.CellSummary`."""
        return pl.DataFrame([asdict(cell) for cell in self.cells], infer_schema_length=None)
