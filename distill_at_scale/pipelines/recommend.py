"""recommend: the smallest dataset that keeps enough quality with a probability of 0.9.

Predicted from the dataset's features, sharpened by its forecast, or measured by its sweep.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel

import distill_at_scale.genie
from distill_at_scale.config import RecommendConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.model import BUDGETS, DataGenie
from distill_at_scale.genie.probability import PREDICTED, SURE, Z, combined
from distill_at_scale.genie.trials import FULL, read_trials
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps.advice import RANDOM_USERS, advised, measured
from distill_at_scale.pipelines.sweeps.dataset_features import features
from distill_at_scale.pipelines.sweeps.forecast_evidence import ForecastEvidence
from distill_at_scale.pipelines.sweeps.forecast_result import read_forecast
from distill_at_scale.pipelines.sweeps.small_datasets import TRAIN_ROWS, command, number, suits, train_bytes, unit
from distill_at_scale.registry import DISTILLERS, METHODS, SAMPLERS

TRAINED = "trained"
"""Folder of the Data-Genie that comes with the package."""
NOT_WORTH_IT = "No method is worth it here: take random users."
"""Note of an answer for which nothing but chance chooses the users."""
ONE_SEED = (
    "the sweep has one seed: its intervals are over users only and do not tell what a new sample keeps, so that no "
    "option is called safe; sweep with --seeds 3."
)
_LIKE = 3


class Option(BaseModel):
    """A method at a budget."""

    method: str
    budget: float
    """Share of the train rows (of a distiller: of the users)."""
    tau: float | None
    tau_low: float | None
    tau_high: float | None
    """Kendall's τ-b between rankings of models, predicted or measured, with a 90 % interval (measured: of its mean over
    seeds); None if only some models can be trained on the method's data."""
    kept: float
    kept_low: float | None
    kept_high: float | None
    """Share of ndcg@10 that is kept, mean over ``models`` (each clipped at 1.2), with a 90 % interval for a new sample;
    measured with one seed: over users only, which does not cover new samples."""
    seeds: int | None
    """Number of seeds it was measured with; None for predictions."""
    make_cpu_s: float | None
    """CPU-seconds of making it."""
    fit_share: float | None
    """Cost of training ``models`` on it as a share of that of training them on everything."""
    fit_cpu_s: float | None
    fit_full_cpu_s: float | None
    """CPU-seconds of these; None where they are expected"""
    unit: str
    """What ``share`` counts: train rows, users or sequences."""
    share: float | None
    """Share of the log's train rows, or of its users."""
    bytes_share: float | None
    """Its bytes as a share of those of all train rows."""
    models: list[str]
    """Models on which it is compared."""
    common: bool
    """Whether most methods are compared on these models; the others are ranked separately."""
    probability: float
    """Probability that it keeps the requested share."""
    meets: bool
    """Whether that is at least 0.9."""
    safe: bool
    """Whether the whole interval lies above the requested share; never for a sweep with one seed."""
    why: str
    command: str
    """Command line that makes the small dataset."""


class Recommendation(BaseModel):
    """Methods, the best recommendation first, each at the smallest budget that keeps the requested share with a
    probability of 0.9, or else at the most probable one; and all data (method ``full``), which keeps everything."""

    data: TrainDataRef
    keep: float
    metric: str
    source: Literal["genie", "sweep"]
    forecast: bool
    """Whether a forecast sharpened it"""
    met: bool
    """Whether a method is sure enough; if none is, all data come first, and then the most probable."""
    models: list[str]
    """Models on which the methods are compared; the kept share is a mean over them."""
    trained: list[str]
    """All models that were trained on some method's data."""
    options: list[Option]
    notes: list[str]
    """What to know before following the advice."""
    wall_s: float


@verb(RecommendConfig, "data")
def recommend(config: RecommendConfig) -> Recommendation:
    """Recommends a method and a budget; see :class:`~distill_at_scale.config.RecommendConfig` for the settings.

    Raises:
        DasError: The dataset does not exist, the sweep is of another dataset, or the Data-Genie of another version.
    """
    started = time.monotonic()
    dataset = Dataset.open(config.data)
    known = None if config.forecast is None else ForecastEvidence(read_forecast(config.forecast, dataset))
    notes: list[str] = []
    if config.sweep is not None:
        found = _measured(dataset, config.sweep)
    else:
        found, notes = _predicted(dataset, config)
    if known is not None:
        found = sharpened(found, known, measured=config.sweep is not None)
        if known.models != sorted(found["models"][0]):
            notes.append(f"the forecast is of {', '.join(known.models)}; other models may rise in another way.")
    options = _ranked(found, config.keep, dataset)
    notes += _classes(options)
    first = options[0]
    met = first.method != FULL
    if any(option.seeds == 1 and option.kept_low is not None for option in options):
        notes.append(ONE_SEED)
    if not met:
        notes.append(_nothing_smaller(options, config.keep))
    elif first.method == RANDOM_USERS:
        notes.append(NOT_WORTH_IT)
    return Recommendation(
        data=TrainDataRef.of(dataset),
        keep=config.keep,
        metric=PRIMARY,
        source="sweep" if config.sweep else "genie",
        forecast=known is not None,
        met=met,
        models=first.models,
        trained=sorted({model for text in found["trained"] for model in json.loads(text)}),
        options=options,
        notes=notes,
        wall_s=round(time.monotonic() - started, 2),
    )


def sharpened(found: pl.DataFrame, known: ForecastEvidence, measured: bool) -> pl.DataFrame:
    """Returns the table with what a forecast says of random users.

    Predictions of random users are combined with it, weighed by their precision. What a sweep measured stays, and
    budgets that it did not try are added; errors of other methods have too little in common with those of random users
    to be corrected by them.

    Args:
        found: Table of :func:`_measured` or :func:`_predicted`.
        known: The forecast.
        measured: Whether the table comes from a sweep.
    """
    rows = []
    own = found.filter(method=RANDOM_USERS)
    for row in own.iter_rows(named=True):
        if not measured and row["budget"] >= known.least:
            row |= _interval(*combined((row["kept"], row["deviation"]), known.kept(row["budget"])))
        rows.append(row)
    tried, new = own["budget"].to_list(), [budget for budget in BUDGETS if budget >= known.least]
    if measured and rows:
        for budget in (b for b in new if all(abs(b - one) > 0.01 * b for one in tried)):
            like = min(rows[: len(tried)], key=lambda row: abs(math.log(row["budget"] / budget)))
            unknown = dict.fromkeys(("tau", "tau_low", "tau_high", "fit_share", "fit_cpu_s", "bytes_share"), None)
            why = {"why": f"forecast from samples up to {100 * known.result.rungs[-1]:.3g} %", "seeds": None}
            rows.append({**like, **unknown, **why, **_interval(*known.kept(budget)), "budget": budget, "share": budget})
    if not rows:
        return found
    return pl.concat([found.filter(pl.col("method") != RANDOM_USERS), pl.DataFrame(rows, schema=found.schema)])


def _interval(kept: float, deviation: float) -> dict[str, float]:
    low, high = max(kept - Z * deviation, 0.0), kept + Z * deviation
    return {"kept": kept, "kept_low": low, "kept_high": high, "deviation": deviation}


def _measured(dataset: Dataset, uri: str) -> pl.DataFrame:
    """Returns the measurements of a sweep: columns of :class:`Option`, and whether most methods share the models.

    Raises:
        DasError: The sweep is of another dataset, or compares fewer than two models.
    """
    described, trials = read_trials(uri)
    of, place = described.data, storage.redact(storage.normalise(uri))
    if of.fingerprint != dataset.manifest.fingerprint:
        raise DasError(
            f"{place} is a sweep of another dataset ({of.uri}, fingerprint {of.fingerprint}) than "
            f"{storage.redact(dataset.uri)} ({dataset.manifest.fingerprint}); sweep this one, or leave --sweep out."
        )
    found = measured(described, trials, cells(trials))
    if found.is_empty():
        raise DasError(f"{place} has no method with a model done on it and on all data; run the sweep again.")
    return found


def _predicted(dataset: Dataset, config: RecommendConfig) -> tuple[pl.DataFrame, list[str]]:
    """Returns the predictions of Data-Genie, in the same columns, and its notes."""
    genie = DataGenie.load(config.genie or str(Path(distill_at_scale.genie.__file__).parent / TRAINED))
    measured = features(dataset, config.address)
    suitable = [method for method in genie.encoder.methods if METHODS.known(method) and suits(method, dataset)]
    found = genie.predict(measured, suitable)
    # A distiller's budget is a share of the users; what it makes of all users was never measured.
    largest = float(np.exp(genie.log_budgets[-1])) + 1e-9
    found = found.filter(pl.col("method").is_in(list(SAMPLERS)) | (pl.col("budget") <= largest))
    like = [fingerprint for fingerprint, _ in genie.neighbours.nearest(measured, _LIKE)]
    known = genie.cells.sort("budget").select("method", "budget", "fingerprint", "dataset", "kept")
    tried = known.rows_by_key("method")
    why = [_like(tried[method], like, budget) for method, budget in found.select("method", "budget").rows()]
    outside = genie.neighbours.outside(measured)
    models, main = {method: genie.compared(method) for method in suitable}, genie.compared_mostly
    sizes = [_bytes_share(dataset, *key) for key in found.select("method", "budget").rows()]
    found = found.with_columns(
        models=pl.Series([list(models[method]) for method in found["method"]], dtype=pl.List(pl.String)),
        common=pl.Series([models[method] == main for method in found["method"]], dtype=pl.Boolean),
        bytes_share=pl.Series(sizes, dtype=pl.Float64),
        trained=pl.lit(json.dumps(genie.trained)),
        unit=pl.Series(map(unit, found["method"]), dtype=pl.String),
        share=pl.col("budget"),
        fit_cpu_s=pl.lit(None, dtype=pl.Float64),
        fit_full_cpu_s=pl.lit(None, dtype=pl.Float64),
        why=pl.Series(why, dtype=pl.String),
        seeds=pl.lit(None, dtype=pl.Int64),
        deviation=PREDICTED * (pl.col("kept_high") - pl.col("kept")) / Z,
    )
    return found, [outside] if outside else []


def _bytes_share(dataset: Dataset, method: str, budget: float) -> float | None:
    """Estimates the bytes of a small dataset as a share of those of the train rows; None if unknown."""
    if method in SAMPLERS:
        return budget
    size = DISTILLERS[method].bytes_of(number(method, budget, dataset.n_users), dataset.n_items)
    return None if size is None else size / max(train_bytes(dataset), 1)


def _like(tried: list[tuple[float, str, str, float]], fingerprints: list[str], budget: float) -> str:
    """Returns what a method kept of the most similar training datasets, at this budget or at the adjacent ones that
    were tried, given its training cells by budget: budget, fingerprint, name of the dataset, share kept."""
    budgets = sorted({cell[0] for cell in tried})
    same = [one for one in budgets if math.isclose(one, budget)]
    around = same or [*[one for one in budgets if one < budget][-1:], *[one for one in budgets if one > budget][:1]]
    parts = []
    for fingerprint in fingerprints:
        kept = [(name, share) for at, of, name, share in tried if of == fingerprint and at in around]
        if kept:
            shares = " and ".join(f"{100 * share:.0f} %" for _, share in kept)
            parts.append(f"{shares} of {kept[0][0]}")
    at = "this budget" if same else f"the budgets tried next to it ({' and '.join(f'{one:g}' for one in around)})"
    if not parts:
        return f"no dataset like this one was tried with it at {at}"
    return f"of the datasets most like this one it kept, at {at}, {', '.join(parts)}"


def _nothing_smaller(options: list[Option], keep: float) -> str:
    """Says that all data is to be kept, and what comes nearest of the methods that are compared on the same models."""
    together = [option for option in options if option.common and option.method != FULL]
    none = "no method" if len(together) == len(options) - 1 else "none of the methods compared on the same models"
    said = f"{none} keeps {100 * keep:.4g} % of {PRIMARY} with a probability of {SURE}: keep all data."
    if not together:
        return said
    best = together[0]
    return (
        f"{said} Nearest comes {best.method} at a budget of {best.budget:g}, which keeps {100 * best.kept:.3g} % and "
        f"suffices with a probability of {best.probability:.2f}."
    )


def _classes(options: list[Option]) -> list[str]:
    """Returns sentences on the models of the comparison, if methods are compared on different ones."""
    apart: dict[tuple[str, ...], list[str]] = {}
    for option in options:
        if not option.common:
            apart.setdefault(tuple(option.models), []).append(option.method)
    return [
        f"{', '.join(methods)}: measured on {' and '.join(models)} alone, since no model learns from all methods; a "
        "choice of its own, for those who train these models."
        for models, methods in apart.items()
    ]


def _ranked(found: pl.DataFrame, keep: float, dataset: Dataset) -> list[Option]:
    """A row a method, in the order of :func:`~distill_at_scale.genie.probability.advise`, and all data."""
    found = found.filter(pl.col("kept").is_finite())
    rows = {(row["method"], row["budget"]): row for row in found.iter_rows(named=True)}
    names = [name for name in Option.model_fields if name not in ("probability", "meets", "safe", "command")]
    options = []
    for one in advised(found, keep):
        row = rows.get((one.method, one.budget)) or _everything(next(iter(rows.values())))
        method, budget = one.method, one.budget
        options.append(
            Option(
                **{name: row[name] for name in names},
                probability=one.probability,
                meets=one.probability >= SURE,
                safe=row["seeds"] != 1 and row["kept_low"] is not None and row["kept_low"] >= keep,
                command=f"das fit --data {shlex.quote(storage.redact(dataset.uri))} --model MODEL --output model"
                if method == FULL
                else command(dataset.uri, method, budget, number(method, budget, dataset.n_users), row["unit"]),
            )
        )
    return options


def _everything(like: dict[str, Any]) -> dict[str, Any]:
    """The row of all data."""
    ones = dict.fromkeys(("budget", "kept", "kept_low", "kept_high", "fit_share", "share", "bytes_share"), 1.0)
    none = dict.fromkeys(("tau", "tau_low", "tau_high", "seeds", "fit_cpu_s", "fit_full_cpu_s"), None)
    text = {"method": FULL, "unit": TRAIN_ROWS, "common": True, "why": "these are all train rows"}
    return {**like, **none, **ones, **text, "make_cpu_s": 0.0}
