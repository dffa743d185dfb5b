"""report: collects the results of a sweep for one page; `distill_at_scale.report.html` writes it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel, Field

from distill_at_scale.config import ReportConfig
from distill_at_scale.data import storage
from distill_at_scale.data.splits import tied_note
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.probability import SURE, Candidate
from distill_at_scale.genie.trials import FULL, METRICS, SweepDescription, read_trials
from distill_at_scale.pipelines.runtime.output_folder import refuse_others_file
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps.advice import advised, measured
from distill_at_scale.pipelines.sweeps.judgement import DatasetReport, judge
from distill_at_scale.pipelines.sweeps.small_datasets import command, unit
from distill_at_scale.uris import redacted

_PAGE = re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE)


class Cell(BaseModel):
    """One method at one budget, as summarised by :func:`~distill_at_scale.genie.cells.cells`."""

    method: str
    budget: float
    share: float | None
    """Share of the full dataset's train rows."""
    rows: float | None
    bytes: float | None
    tau: float | None
    tau_low: float | None
    tau_high: float | None
    kept: float
    """Share of ndcg@10, mean over the models and seeds."""
    kept_low: float | None
    kept_high: float | None
    """90 % interval of that mean over users and seeds; with one seed, over users only."""
    new_low: float | None = None
    new_high: float | None = None
    """90 % interval for a new sample; None with one seed."""
    kept_by_model: dict[str, float | None]
    make_cpu_s: float
    fit_cpu_s: float
    """CPU-seconds of one round of training: each model fitted once on the small data."""
    fit_full_cpu_s: float
    """The same on the full data."""
    n_seeds: int
    n_models: int
    """Number of models fitted on both the small and the full data."""
    models: list[str] = Field(default_factory=list)
    """Models on which it is compared, for ``kept`` and the costs."""
    common: bool = True
    """Whether most cells are compared on these models; the others are not ranked."""
    unit: str = "train rows"
    """Unit of ``rows`` and ``share``."""
    cheap: bool = False
    """Whether no other keeps as much at a lower cost of making it and one round of training."""
    light: bool = False
    """Whether no other keeps as much in fewer bytes."""

    @property
    def users_only(self) -> bool:
        """Whether the interval covers users only, not seeds."""
        return self.n_seeds < 2

    @property
    def cost(self) -> float | None:
        """CPU time of making the small data plus one round of training on it, as a share of one round on the full data;
        None if that took no time."""
        return (self.make_cpu_s + self.fit_cpu_s) / self.fit_full_cpu_s if self.fit_full_cpu_s > 0 else None

    @property
    def pays_after(self) -> float | None:
        """Number of rounds of training until making the small data pays off; None: it never does."""
        saved = self.fit_full_cpu_s - self.fit_cpu_s
        return self.make_cpu_s / saved if saved > 0 else None


class FullModel(BaseModel):
    """A model fitted on all rows."""

    model: str
    score: float
    """Mean test ndcg@10 over the seeds."""
    spread: float | None
    """Standard deviation over the seeds; None for a single one."""
    fit_cpu_s: float | None
    n_seeds: int


class Failure(BaseModel):
    """A failed trial."""

    method: str
    budget: float
    model: str
    seed: int
    reason: str


class ReportResult(BaseModel):
    """Content of the page."""

    uri: str
    """Address of the page."""
    sweep: str
    data: str
    """URI of the full dataset."""
    dataset: str
    """Name of the dataset."""
    fingerprint: str
    keep: float
    """Share of ndcg@10 that was asked for."""
    recommended: Cell | None
    """The smallest that keeps that much with a probability of 0.9, as `das recommend` says, else the most probable;
    None without results."""
    probability: float | None
    """Probability that it keeps that much."""
    met: bool
    """Whether that is at least 0.9; else all data are to be kept."""
    safe: Cell | None
    """Smallest cell whose whole interval for a new sample lies above the requested share; None with one seed."""
    command: str | None
    """Command line that makes the recommended small dataset."""
    cells: list[Cell]
    """Results by method and budget."""
    by_metric: dict[str, list[Cell]] = Field(default_factory=dict)
    """Further metric -> the same cells with the kept share of that metric, without τ."""
    full: list[FullModel]
    failed: list[Failure]
    trials: int
    seeds: list[int]
    full_bytes: float | None
    """Bytes of the full dataset's train rows."""
    notes: list[str]
    """Notes on missing parts of the sweep, as sentences."""
    config: dict[str, Any]
    """Settings of the sweep."""
    versions: dict[str, str]
    """Versions of the software that ran it."""


@verb(ReportConfig, "sweep")
def report(config: ReportConfig) -> ReportResult | DatasetReport:
    """Collects the trials of a sweep, finished or not, or what is known of a small dataset; see
    :class:`~distill_at_scale.config.ReportConfig`.

    Raises:
        DasError: The sweep does not exist, none of its trials has ended, or the output is not an HTML page.
    """
    storage.check_writable(storage.normalise(config.output))
    refuse_others_file(storage.normalise(config.output), _PAGE, "an HTML page")
    if config.dataset is not None:
        return judge(config.dataset, config.comparison, storage.normalise(config.output))
    assert config.sweep is not None
    sweep = storage.normalise(config.sweep)
    about, trials = read_trials(sweep)
    full = trials.filter(pl.col("method") == FULL)
    table = cells(trials)
    found = gather(table, about)
    best, first = recommended(found, advised(measured(about, trials, table), config.keep))
    (dataset, fingerprint) = trials.select("dataset", "fingerprint").row(0)
    return ReportResult(
        uri=storage.normalise(config.output),
        sweep=storage.redact(sweep),
        data=about.data.uri,
        dataset=dataset,
        fingerprint=fingerprint,
        keep=config.keep,
        recommended=best,
        probability=None if first is None else first.probability,
        met=first is not None and first.probability >= SURE,
        safe=safe(found, config.keep),
        command=None
        if best is None
        else command(about.data.uri, best.method, best.budget, round(best.rows or 0), best.unit),
        cells=found,
        by_metric=_by_metric(trials),
        full=_full(full),
        failed=_failed(trials),
        trials=len(trials),
        seeds=trials["seed"].unique().sort().to_list(),
        full_bytes=_number(full["bytes"].mean()),
        notes=_notes(about),
        config=redacted(about.config),
        versions=dict(about.versions),
    )


def gather(table: pl.DataFrame, about: SweepDescription | None = None) -> list[Cell]:
    """Converts a table of cells to objects and marks both Pareto fronts; cells without a finite value are left out.

    Args:
        about: Description of the sweep.
    """
    rows = table.sort("method", "budget").to_dicts()
    found = []
    for row in rows:
        numbers = {name: _number(value) if isinstance(value, float) else value for name, value in row.items()}
        if numbers["kept"] is not None:
            cost = {name: numbers[name] or 0.0 for name in ("make_cpu_s", "fit_cpu_s", "fit_full_cpu_s")}
            numbers["unit"] = unit(row["method"], about.units if about else {})
            found.append(Cell.model_validate({**numbers, **cost, "kept_by_model": _by_model(row["kept_by_model"])}))
    compared = [cell for cell in found if cell.common]
    for k in front([(cell.cost, cell.kept) for cell in compared]):
        compared[k].cheap = True
    for k in front([(cell.bytes or None, cell.kept) for cell in compared]):
        compared[k].light = True
    return found


def _by_metric(trials: pl.DataFrame) -> dict[str, list[Cell]]:
    """Returns the kept shares of the other metrics that every trial has; not of AUC, which is 0.5 by chance."""
    done = trials.filter(pl.col("status") == "done")
    others = [name for name in METRICS if name not in (PRIMARY, "auc") and not done[name].null_count()]
    found = {metric: gather(cells(trials, (), metric)) for metric in others}
    return {metric: gathered for metric, gathered in found.items() if gathered}


def front(points: Sequence[tuple[float | None, float]]) -> list[int]:
    """Returns the Pareto front of (cost, quality), the cheapest first; ties go to the first. Points of unknown cost are
    left out."""
    best, found = -math.inf, []
    priced = [(cost, -quality, k) for k, (cost, quality) in enumerate(points) if cost is not None]
    for _, quality, k in sorted(priced):
        if -quality > best:
            best = -quality
            found.append(k)
    return found


def recommended(cells: Sequence[Cell], ranked: Sequence[Candidate]) -> tuple[Cell | None, Candidate | None]:
    """Returns the first cell of the advice that is not all data, and what the advice says of it; None without cells."""
    of = {(cell.method, cell.budget): cell for cell in cells}
    return next(((of[key], one) for one in ranked if (key := (one.method, one.budget)) in of), (None, None))


def safe(cells: Sequence[Cell], keep: float) -> Cell | None:
    """Returns the smallest cell whose whole interval for a new sample lies above ``keep``; None if none does."""
    above = [cell for cell in cells if cell.new_low is not None and cell.new_low >= keep]
    return min(above, key=lambda cell: (not cell.common, cell.budget, -cell.kept), default=None)


def _notes(about: SweepDescription) -> list[str]:
    """Returns notes on the missing parts of an incomplete sweep."""
    notes, end = tied_note(about.data.tied_in_time), about.end
    if end is None:
        return [*notes, "The sweep had not ended when this page was made."]
    left = [f"For {end.left:,} trials the time budget did not suffice."] if end.left else []
    beware = [f"{sentence}." for sentence in end.notes]
    return [*notes, *left, *(f"Left out: {sentence}." for sentence in end.left_out), *beware]


def _full(trials: pl.DataFrame) -> list[FullModel]:
    done = (
        trials.filter(pl.col("status") == "done")
        .group_by("model")
        .agg(
            score=pl.col(PRIMARY).mean(),
            spread=pl.col(PRIMARY).std(),
            fit_cpu_s=pl.col("fit_cpu_s").mean(),
            n_seeds=pl.len(),
        )
    )
    return [FullModel.model_validate(row) for row in done.sort("score", descending=True).to_dicts()]


def _failed(trials: pl.DataFrame) -> list[Failure]:
    failed = trials.filter(pl.col("status") == "failed").sort("method", "budget", "model", "seed")
    return [Failure.model_validate(row) for row in failed.select(*Failure.model_fields).to_dicts()]


def _by_model(text: str) -> dict[str, float | None]:
    return {model: _number(value) for model, value in json.loads(text).items()}


def _number(value: Any) -> float | None:
    """Returns the number, or None if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)
