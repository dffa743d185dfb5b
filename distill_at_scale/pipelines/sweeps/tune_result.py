"""What a search for the best model says, as the command line, pages and other verbs read it."""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import ConfigDict

from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.pipelines.runtime.results import Figures, Result

NAME = "tune.json"
FIX = "run the same das tune again"
"""Remedy for damage, as the end of a sentence."""


class RungResult(Figures):
    """One share of the data."""

    share: float
    """Share of the train rows asked for; 1 for everything."""
    users: int
    """Users who validated."""
    tried: int
    """Candidates that were fitted on it."""
    kept: int
    """Candidates that went on; on the last rung, 1."""
    shift: float | None
    """What the next rung was assumed to change of a candidate's relative quality, as a standard deviation; None on the
    last rung."""
    tau: float | None
    """Kendall's τ between the order on this rung and on the next, of those on both; None for fewer than two."""
    cpu_s: float


class MeasuredRung(Figures):
    """A candidate on a rung."""

    share: float
    quality: float
    """Metric on the validation rows."""
    fit_cpu_s: float
    measure_cpu_s: float


class CandidateResult(Figures):
    """A model with settings, and how far it came."""

    name: str
    model: str
    settings: dict[str, Any]
    """Settings that were searched."""
    rungs: list[MeasuredRung]
    """By ascending share."""
    dropped: str
    """Why it did not go on, as the end of a sentence; "" for the winner, the runner-up, and what the time budget
    stopped."""


class Judged(Figures):
    """A finalist on the test rows."""

    name: str
    model: str
    settings: dict[str, Any]
    """Settings that were searched."""
    validation: float
    test: dict[str, float]
    """All metrics on the test rows."""


class Difference(Figures):
    """The winner less the runner-up, on the same users, with a 90 % interval over users."""

    value: float
    low: float
    high: float


class TuneResult(Result):
    """The best model with its settings, what else was tried, and what it cost."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    """Whether there is a winner, or only the time budget kept the search from ending; otherwise `das tune` exits
    with 1."""
    uri: str
    data: TrainDataRef
    metric: str
    models: list[str]
    search: int
    proposals: str
    """What proposed the settings: spread, or spread and optuna."""
    rungs: list[RungResult]
    candidates: list[CandidateResult]
    """Those that came farthest first, and of these the best first."""
    winner: Judged | None
    """None if the time budget ended the search."""
    model: str | None
    """Folder of the winner, fitted on all train rows."""
    runner_up: Judged | None
    """None for a single finalist."""
    on_validation: Difference | None
    on_test: Difference | None
    spent_cpu_s: float
    """CPU-seconds of all samples, fits and evaluations."""
    full_cpu_s: float | None
    """CPU-seconds that fits and evaluations of all candidates on everything would have taken, as extrapolated from
    their rungs; None while the search has not ended."""
    left_out: list[str]
    """Models without a result, and why, as sentences."""
    notes: list[str]
    """What to know of the figures, as sentences."""
    wall_s: float

    def headline(self) -> str:
        """The winner, and of how many."""
        tried = f"{len(self.candidates)} candidates on {self.data.uri}"
        if self.winner is None:
            return f"no winner yet of {tried}"
        return f"{self.winner.name} is the best of {tried}"

    def to_frame(self) -> pl.DataFrame:
        """A row for each candidate, those that came farthest first.

        Columns: name · model · share (of its last rung) · quality · fit_cpu_s (of all its rungs) · dropped · settings.
        """
        rows = [
            {
                "name": one.name,
                "model": one.model,
                "share": one.rungs[-1].share if one.rungs else None,
                "quality": one.rungs[-1].quality if one.rungs else None,
                "fit_cpu_s": sum(rung.fit_cpu_s for rung in one.rungs),
                "dropped": one.dropped,
                "settings": ", ".join(f"{name}={value:g}" for name, value in one.settings.items()),
            }
            for one in self.candidates
        ]
        schema = {"name": pl.String, "model": pl.String, "share": pl.Float64, "quality": pl.Float64}
        return pl.DataFrame(
            rows, schema={**schema, "fit_cpu_s": pl.Float64, "dropped": pl.String, "settings": pl.String}
        )
