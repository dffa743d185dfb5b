"""What a forecast says, as the command line, figures and other verbs read it."""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import ConfigDict

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import DatasetRef, TrainDataRef
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime.results import Figures, Result

NAME = "forecast.json"
FIX = "run the same das forecast again"
"""Remedy for damage, as the end of a sentence."""


class CurvePoint(Figures):
    """A point of a learning curve."""

    share: float
    """Share of the train rows."""
    quality: float
    low: float
    high: float
    """90 % interval: of a forecast, or of what a rung measured (over users only if there is one seed)"""


class RowsNeeded(Figures):
    """How many train rows keep a share of the quality on all rows."""

    keep: float
    """Share of the quality on all rows."""
    rows: int
    rows_low: int
    rows_high: int
    """90 % interval"""
    share: float
    """``rows`` as a share of all train rows."""


class ModelForecast(Figures):
    """The forecast of one model."""

    model: str
    quality: float
    """Quality on all rows."""
    low: float
    high: float
    """90 % interval"""
    needed: list[RowsNeeded]
    fit_cpu_s: float
    """CPU-seconds of a fit on all rows."""
    fit_cpu_s_low: float
    fit_cpu_s_high: float
    """Range of the laws that fit the costs nearly as well"""
    spent_cpu_s: float
    """CPU-seconds of the fits on the rungs, all seeds."""
    forms: dict[str, float]
    """Form of the curve -> its weight."""
    doubt: str
    """Why the curve is not law-like, as a sentence; "" if it is."""
    rungs: list[CurvePoint]
    """What was measured, means over the seeds."""
    curve: list[CurvePoint]
    """The curve from the smallest rung to all rows."""


class ForecastResult(Result):
    """Forecasts of models on all rows of a dataset, from fits on nested samples."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    """Whether every model has a forecast; otherwise `das forecast` exits with 1."""
    uri: str
    data: TrainDataRef
    metric: str
    rungs: list[float]
    """Shares of the train rows that were asked for, ascending."""
    seeds: int
    models: list[ModelForecast]
    """The best on all rows first."""
    tau: float | None
    tau_low: float | None
    tau_high: float | None
    """Kendall's τ between this order and that of fits on all rows, as expected, with a 90 % interval; None for one
    model"""
    spent_cpu_s: float
    """CPU-seconds of all fits."""
    full_cpu_s: float
    """CPU-seconds that one fit of each model on all rows would take."""
    left_out: list[str]
    """Models without a forecast, and why, as sentences."""
    notes: list[str]
    """What to know of the figures, as sentences."""
    wall_s: float

    def headline(self) -> str:
        """The dataset, and from how little of it."""
        up_to = f"{100 * self.rungs[-1]:.4g} % of {self.data.train_rows:,} train rows"
        return f"test {self.metric} of {len(self.models)} models on all of {self.data.uri}, from up to {up_to}"

    def to_frame(self) -> pl.DataFrame:
        """A row for each model, the best first.

        Columns: model · quality · low · high · rows_90, rows_95, rows_99, each with _low and _high · fit_cpu_s ·
        spent_cpu_s · law_like.
        """
        rows = []
        for one in self.models:
            row: dict[str, Any] = {"model": one.model, "quality": one.quality, "low": one.low, "high": one.high}
            for need in one.needed:
                name = f"rows_{100 * need.keep:g}"
                row |= {name: need.rows, f"{name}_low": need.rows_low, f"{name}_high": need.rows_high}
            row |= {"fit_cpu_s": one.fit_cpu_s, "spent_cpu_s": one.spent_cpu_s, "law_like": not one.doubt}
            rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None)


def read_forecast(uri: str, dataset: Dataset) -> ForecastResult:
    """Reads the forecast of a dataset.

    Raises:
        DasError: There is none at ``uri``, it has not ended, has no model, or is of another dataset.
        DamagedFileError: It has been altered.
    """
    uri = storage.normalise(uri)
    place = storage.redact(uri)
    try:
        found = recorded.read_json(storage.join(uri, NAME), FIX)
    except FileNotFoundError:
        raise DasError(f"{place} is not a forecast: it has no {NAME}; das forecast makes one.") from None
    with recorded.parsing(storage.join(uri, NAME), FIX):
        of = DatasetRef.model_validate(found["data"])
    require_same_dataset(of, dataset, place)
    if "result" not in found:
        raise DasError(f"{place}: the forecast has not ended; {FIX}.")
    with recorded.parsing(storage.join(uri, NAME), FIX):
        result = ForecastResult.model_validate(found["result"])
    if not result.models:
        reasons = "; ".join(result.left_out)
        raise DasError(f"{place} is a forecast of no model ({reasons}); run das forecast with other --models.")
    return result


def require_same_dataset(of: DatasetRef, dataset: Dataset, place: str) -> None:
    """Refuses a forecast of another dataset.

    Raises:
        DasError: naming both.
    """
    if of.fingerprint != dataset.manifest.fingerprint:
        raise DasError(
            f"{place} is a forecast of another dataset ({of.uri}, fingerprint {of.fingerprint}) than "
            f"{storage.redact(dataset.uri)} ({dataset.manifest.fingerprint}); forecast this one."
        )
