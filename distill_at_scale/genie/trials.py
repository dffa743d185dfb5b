"""The files of a sweep: ``trials.parquet``, a row for each trial, and ``sweep.json``, its description.

A trial fits one model with one seed on the small dataset of one method at one budget, and evaluates it on the full
dataset's held-out rows. :mod:`~distill_at_scale.genie.cells` summarises the trials of each method at each budget.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset_ref import EvaluatedDataRef
from distill_at_scale.data.recorded import FileRecord, record_of
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.evaluation.retention import DEFAULT_METRICS

NAME, TRIALS = "sweep.json", "trials.parquet"
"""Files of a sweep: dataset, settings and result; trials."""
VERSION = 2
"""Schema version of sweep.json, which records trials.parquet: its current content and, while replaced, the next."""
FIX = "run the same das sweep again, which rebuilds it from its trials' records"
"""Remedy for damage, as the end of a sentence."""
FULL = "full"
"""The method that keeps all data."""
METRICS = DEFAULT_METRICS

SCHEMA: dict[str, Any] = {
    "dataset": pl.String,
    "fingerprint": pl.String,
    "method": pl.String,
    "budget": pl.Float64,
    "seed": pl.Int64,
    "model": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "rows": pl.Int64,
    "share": pl.Float64,
    "bytes": pl.Int64,
    "make_cpu_s": pl.Float64,
    "make_wall_s": pl.Float64,
    "fit_cpu_s": pl.Float64,
    "fit_wall_s": pl.Float64,
    **dict.fromkeys(METRICS, pl.Float64),
    "resampled": pl.Struct({metric: pl.List(pl.Float32) for metric in METRICS if metric != "auc"}),
}
"""Columns of trials. ``dataset``, ``fingerprint`` name the full dataset; ``status`` is done or failed, with a
``reason``; ``rows``, ``share`` (of the full train rows) and ``bytes`` describe the small data (for a distiller:
synthetic users, their share of the users, and the bytes of their numbers); costs are in seconds; the cost of making
small data is that of making this one alone (a pass that serves several budgets is charged in full to each); metrics
are fractions, on test rows; ``resampled`` holds their averages over resampled users
(:class:`~distill_at_scale.evaluation.bootstrap.UserBootstrap`), the same users for every trial of a dataset."""

KEY = ("fingerprint", "method", "budget", "seed", "model")
"""Columns that identify a trial."""


@dataclass(frozen=True, slots=True)
class TrialKey:
    """What tells a trial apart. The fields are columns of :data:`SCHEMA`, and parameters in TensorBoard and MLflow."""

    dataset: str
    """Name of the full dataset."""
    fingerprint: str
    """Fingerprint of the full dataset."""
    method: str
    budget: float
    model: str
    seed: int

    def as_dict(self) -> dict[str, str | float]:
        """Returns the columns, by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial that has ended; :data:`SCHEMA` describes the fields. What is not known is None."""

    key: TrialKey
    status: Literal["done", "failed"]
    reason: str = ""
    rows: int | None = None
    share: float | None = None
    bytes: int | None = None
    make_cpu_s: float | None = None
    make_wall_s: float | None = None
    fit_cpu_s: float | None = None
    fit_wall_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics on the test rows."""
    resampled: Mapping[str, Sequence[float]] | None = None

    def figures(self) -> dict[str, float]:
        """Returns the sizes, costs and metrics that are known."""
        found = {name: getattr(self, name) for name in _FIGURES}
        return {name: value for name, value in {**found, **self.metrics}.items() if value is not None}

    def columns(self) -> dict[str, Any]:
        """Returns the row of ``trials.parquet``, and further metrics."""
        found = {name: getattr(self, name) for name in ("status", "reason", *_FIGURES, "resampled")}
        return {**self.key.as_dict(), **found, **self.metrics}

    @staticmethod
    def from_columns(row: Mapping[str, Any]) -> TrialRow:
        """Returns the trial of a row of ``trials.parquet``."""
        key = TrialKey(**{name: row[name] for name in _KEY})
        known = {name: row[name] for name in ("status", "reason", *_FIGURES, "resampled")}
        return TrialRow(key, **known, metrics={name: row[name] for name in METRICS})


_KEY = ("dataset", "fingerprint", "method", "budget", "model", "seed")
_FIGURES = ("rows", "share", "bytes", "make_cpu_s", "make_wall_s", "fit_cpu_s", "fit_wall_s")


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """How a sweep ended."""

    left: int
    """Number of trials that did not run because the time budget was used up."""
    left_out: Sequence[str]
    """Requested combinations that are impossible, as sentences."""
    notes: Sequence[str]
    """Notes on the results, as sentences."""


@dataclass(frozen=True, slots=True)
class SweepDescription:
    """Content of ``sweep.json``."""

    data: EvaluatedDataRef
    """The full dataset."""
    config: Mapping[str, Any]
    """Settings of the sweep."""
    versions: Mapping[str, str]
    """Versions of the software that ran it."""
    version: int
    """Schema version."""
    trials: Sequence[FileRecord]
    """Records of ``trials.parquet``: its current content and, while it is replaced, the next; none in version 1."""
    units: Mapping[str, str]
    """Plugin -> unit of its budget, so that readers need not import it."""
    end: SweepEnd | None
    """None while the sweep has not ended."""

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> SweepDescription:
        """Returns the description that a sweep wrote.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or of another type.
        """
        end = content.get("result")
        return SweepDescription(
            data=EvaluatedDataRef.model_validate(content["data"]),
            config=content.get("config", {}),
            versions=content.get("versions", {}),
            version=int(content.get("version", 1)),
            trials=[FileRecord.model_validate(record) for record in content.get("trials", [])],
            units=content.get("units", {}),
            end=None if end is None else SweepEnd(end["left"], end.get("left_out", []), end.get("notes", [])),
        )


def as_trials(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Returns a table of trials from rows with some of the columns of :data:`SCHEMA`; missing columns are null."""
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA)


def read_trials(uri: str) -> tuple[SweepDescription, pl.DataFrame]:
    """Returns the description of a sweep, and its trials.

    Raises:
        DasError: The sweep does not exist, or none of its trials has ended.
        DamagedFileError: A file of the sweep is damaged.
    """
    uri = storage.normalise(uri)
    place = storage.redact(uri)
    try:
        described = read_description(uri)
    except FileNotFoundError:
        raise DasError(f"{place} is not a sweep: {NAME} is missing; das sweep makes one.") from None
    file = storage.join(uri, TRIALS)
    try:
        content = storage.read_bytes(file)
    except FileNotFoundError:
        raise DasError(
            f"{place}: the sweep is unfinished, and {TRIALS} is missing; run the same das sweep again, which goes on "
            "with it."
        ) from None
    # Version 1 has no checksum of the trials.
    if described.version != 1 and record_of(TRIALS, content) not in described.trials:
        raise DamagedFileError(f"{storage.redact(file)} differs from its checksum; {FIX}.")
    with recorded.parsing(file, FIX):
        trials = pl.read_parquet(io.BytesIO(content))
    if trials.is_empty():
        raise DasError(f"{place}: no trial of the sweep has ended yet; run the same das sweep again.")
    return described, trials


def read_description(uri: str) -> SweepDescription:
    """Returns the description of the sweep at ``uri``.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: The file is damaged.
    """
    file = storage.join(uri, NAME)
    described, checksum = recorded.parse_json(storage.read_bytes(file), file, FIX)
    recorded.require_checksum(described, checksum, file, FIX)
    with recorded.parsing(file, FIX):
        return SweepDescription.from_json(described)
