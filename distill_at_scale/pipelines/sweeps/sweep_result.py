"""What a sweep found, as the command line, the report and the recommendation read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class SweepResult(BaseModel):
    """What a sweep found; every trial is a row of ``<uri>/trials.parquet``."""

    ok: bool
    """no trial failed, and none is left for another reason than the time budget; else `das sweep` exits with 1"""
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
    """that did not run, since the time budget was used up"""
    failures: dict[str, int]
    """reason -> trials"""
    fits: int
    """that the trials needed; what is the same was fitted once"""
    searched: dict[str, dict[str, float]]
    """model or distiller -> the settings that a search found"""
    left_out: list[str]
    """what was asked for and cannot be, as sentences"""
    notes: list[str]
    """what to know of the figures, as sentences"""
    metric: str
    """whose kept share is told, and by which every model and distiller chose its settings on validation rows"""
    cells: list[dict[str, Any]]
    """what every method keeps at every budget; see :func:`distill_at_scale.genie.trials.cells`"""
    wall_s: float
