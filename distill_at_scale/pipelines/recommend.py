"""recommend: which method, at which budget, keeps enough of this dataset? From its features, or from a sweep of it."""

from __future__ import annotations

import json
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
from distill_at_scale.errors import DasError
from distill_at_scale.genie.oracle import MOST_KEPT, DataGenie, bounded
from distill_at_scale.genie.trials import PRIMARY, cells, read_trials
from distill_at_scale.pipelines.features import features
from distill_at_scale.pipelines.making import command, synthetic_users
from distill_at_scale.samplers.sampler import SAMPLERS
from distill_at_scale.settings import settle

TRAINED = "trained"
"""Folder of the Data-Genie that comes with the package."""
ONE_SEED = (
    "the sweep has one seed: its intervals are over users only and do not tell what a new sample keeps, so that no "
    "option is called safe; sweep with --seeds 3."
)
_LIKE = 3


class Option(BaseModel):
    """A method at a budget."""

    method: str
    budget: float
    """share of the train rows (of a distiller: of the users)"""
    tau: float | None
    tau_low: float | None
    tau_high: float | None
    """Kendall's τ-b between rankings of models, expected or measured, with a 90 % interval (measured: of its mean over
    seeds); None where only some models can learn from what the method makes"""
    kept: float
    kept_low: float | None
    kept_high: float | None
    """share of ndcg@10 that is kept, mean over the models (each counts with 1.2 at most), with a 90 % interval of what
    a new sample keeps; measured with one seed: over users only, which does not tell what a new sample keeps"""
    seeds: int | None
    """that it was measured with; None where it is expected"""
    make_cpu_s: float | None
    """CPU-seconds of making it"""
    fit_share: float | None
    """cost of training on it as a share of that of training on everything"""
    meets: bool
    """whether as much as asked for is kept, as expected or measured"""
    safe: bool
    """whether the interval as a whole lies above what is asked for; never where one seed was measured"""
    why: str
    command: str
    """makes the small dataset"""


class Recommendation(BaseModel):
    """Methods, the most recommended first, each at the smallest budget that meets what is asked for."""

    data: dict[str, Any]
    """uri, fingerprint and train rows of the dataset"""
    keep: float
    metric: str
    source: Literal["genie", "sweep"]
    met: bool
    """whether any option keeps as much as asked for; if none does, the nearest comes first"""
    options: list[Option]
    notes: list[str]
    """what to know before following the advice"""
    wall_s: float


def recommend(config: RecommendConfig | None = None, /, **settings: Any) -> Recommendation:
    """Recommends a method and a budget; see :class:`~distill_at_scale.config.RecommendConfig` for the settings.

    Raises:
        DasError: no dataset, a sweep of another dataset, a Data-Genie of another version.
    """
    config = settle(RecommendConfig, config, settings)
    started = time.monotonic()
    dataset = Dataset.open(config.data)
    notes: list[str] = []
    if config.sweep is not None:
        found = _measured(dataset, config.sweep)
    else:
        found, notes = _predicted(dataset, config)
    options = _ranked(found, config.keep, dataset)
    met = options[0].meets
    if any(option.seeds == 1 and option.kept_low is not None for option in options):
        notes.append(ONE_SEED)
    if not met:
        best = options[0]
        notes.append(
            f"no method is {'known' if config.sweep else 'expected'} to keep {100 * config.keep:.4g} % of {PRIMARY}; "
            f"nearest comes {best.method} with {100 * best.kept:.3g} % at a budget of {best.budget:g}."
        )
    return Recommendation(
        data={
            "uri": storage.redact(dataset.uri),
            "fingerprint": dataset.manifest.fingerprint,
            "train_rows": dataset.manifest.splits["train"],
        },
        keep=config.keep,
        metric=PRIMARY,
        source="sweep" if config.sweep else "genie",
        met=met,
        options=options,
        notes=notes,
        wall_s=round(time.monotonic() - started, 2),
    )


def _measured(dataset: Dataset, uri: str) -> pl.DataFrame:
    """What a sweep measured: columns as :class:`Option` has them, and whether all models were compared.

    Raises:
        DasError: when the sweep is of another dataset, or compares no two models.
    """
    described, trials = read_trials(uri)
    of, place = described["data"], storage.redact(storage.normalise(uri))
    if of["fingerprint"] != dataset.manifest.fingerprint:
        raise DasError(
            f"{place} is a sweep of another dataset ({of['uri']}, fingerprint {of['fingerprint']}) than "
            f"{storage.redact(dataset.uri)} ({dataset.manifest.fingerprint}); sweep this one, or leave --sweep out."
        )
    table = cells(trials)
    # The bound on what a model adds moves the mean, and its interval with it.
    found = bounded(table).with_columns(moved=table["kept"])
    if found.is_empty():
        raise DasError(f"{place} has no method with two models done on it and on all data; run the sweep again.")
    why = [
        f"measured with {row['n_seeds']} seed{'s' * (row['n_seeds'] != 1)}: "
        + ", ".join(f"{model} keeps {100 * kept:.0f} %" for model, kept in json.loads(row["kept_by_model"]).items())
        for row in found.iter_rows(named=True)
    ]
    by = pl.col("kept") - pl.col("moved")
    return found.with_columns(
        kept_low=(pl.coalesce("new_low", "kept_low") + by).clip(0.0),
        kept_high=(pl.coalesce("new_high", "kept_high") + by).clip(upper_bound=MOST_KEPT),
        seeds=pl.col("n_seeds"),
        fit_share=pl.col("fit_cpu_s") / pl.col("fit_full_cpu_s"),
        whole=pl.col("n_models") == pl.col("n_models").max(),
        why=pl.Series(why),
    ).with_columns(*(pl.when("whole").then(name).alias(name) for name in ("tau", "tau_low", "tau_high")))


def _predicted(dataset: Dataset, config: RecommendConfig) -> tuple[pl.DataFrame, list[str]]:
    """What Data-Genie expects, in the same columns, and its notes."""
    genie = DataGenie.load(config.genie or str(Path(distill_at_scale.genie.__file__).parent / TRAINED))
    measured = features(dataset, config.address)
    times = dataset.manifest.has_timestamps
    suitable = [m for m in genie.encoder.methods if m not in SAMPLERS or times or not SAMPLERS[m].timestamps]
    found = genie.predict(measured, suitable)
    like = [fingerprint for fingerprint, _ in genie.neighbours.nearest(measured, _LIKE)]
    why = [_like(genie.cells, like, row["method"], row["budget"]) for row in found.iter_rows(named=True)]
    outside = genie.neighbours.outside(measured)
    found = found.with_columns(
        whole=pl.col("tau").is_not_null(), why=pl.Series(why), seeds=pl.lit(None, dtype=pl.Int64)
    )
    return found, [outside] if outside else []


def _like(known: pl.DataFrame, fingerprints: list[str], method: str, budget: float) -> str:
    """What the method kept of the training datasets that are most like this one, at the nearest budget tried."""
    tried = known["budget"].unique().to_numpy()
    nearest = float(tried[np.abs(np.log(tried / budget)).argmin()])
    rows = known.filter((pl.col("method") == method) & (pl.col("budget") == nearest))
    kept = {row["fingerprint"]: row for row in rows.iter_rows(named=True)}
    parts = [f"{100 * kept[f]['kept']:.0f} % of {kept[f]['dataset']}" for f in fingerprints if f in kept]
    told = f"of the datasets most like this one it kept, at a budget of {nearest:g}, {', '.join(parts)}"
    if rows["n_models"].max() != known["n_models"].max():
        models = " and ".join(json.loads(rows["kept_by_model"][0]))
        told += f"; only {models} learn from it"
    return told


def _ranked(found: pl.DataFrame, keep: float, dataset: Dataset) -> list[Option]:
    """A row a method: at its smallest budget that meets, or else at its best one. First what meets, methods that all
    models can learn from before others, then by budget, then by what is kept; what does not meet by what is kept."""
    found = found.filter(pl.col("kept").is_finite())
    best = []
    for _, rows in found.group_by("method", maintain_order=True):
        meets = rows.filter(pl.col("kept") >= keep).sort("budget")
        best.append((meets if meets.height else rows.sort("kept", descending=True)).row(0, named=True))

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        if row["kept"] >= keep:
            return 0, not row["whole"], row["budget"], -row["kept"]
        return 1, not row["whole"], -row["kept"]

    names = [name for name in Option.model_fields if name not in ("meets", "safe", "command")]
    return [
        Option(
            **{name: row[name] for name in names},
            meets=row["kept"] >= keep,
            safe=row["seeds"] != 1 and row["kept_low"] is not None and row["kept_low"] >= keep,
            command=command(dataset.uri, row["method"], row["budget"], synthetic_users(row["budget"], dataset.n_users)),
        )
        for row in sorted(best, key=order)
    ]
