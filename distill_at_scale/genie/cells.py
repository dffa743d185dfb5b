"""Cells: the summary of a sweep's trials for each method at each budget; reports and Data-Genie read only these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.evaluation.intervals import Spread, spread
from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.genie.common import classes, common_models, main_models, served
from distill_at_scale.genie.trials import FULL, METRICS, SCHEMA, TrialRow

_CELL = ("dataset", "fingerprint", "method", "budget")


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One method at one budget on one dataset. Sizes and costs are means over the trials; intervals are 90 %."""

    dataset: str
    """Name of the full dataset."""
    fingerprint: str
    """Fingerprint of the full dataset."""
    method: str
    budget: float
    models: list[str]
    """Models on which the cell is compared; cells of a dataset with the same models are comparable
    (:func:`~distill_at_scale.genie.common.common_models`)."""
    common: bool
    """Whether most methods are compared on these models."""
    share: float | None
    """Share of the full dataset's train rows; for a distiller, of its users."""
    rows: float | None
    bytes: float | None
    tau: float | None
    """Kendall's τ-b between the scores of all models fitted on all data and on the small data, mean over metrics and
    seeds. None if the cell lacks a model that the dataset's other cells have, since a ranking of fewer models is easier
    to keep, or if no metric distinguishes the models."""
    tau_low: float | None
    tau_high: float | None
    """Interval over users and seeds (:mod:`~distill_at_scale.evaluation.intervals`; with one seed: over users only;
    ``auc``, a mean over rows, is not resampled)."""
    tau_resampled: float | None
    """Mean of τ over resampled users, in which a pair of nearly equal models counts little."""
    kept: float
    """Share of the metric that is kept, mean over ``models`` and seeds."""
    kept_low: float | None
    kept_high: float | None
    new_low: float | None
    new_high: float | None
    """Interval of the share that a new small dataset, made with another seed, would keep; None with one seed."""
    kept_by_model: str
    """JSON object: model -> share that is kept."""
    make_cpu_s: float | None
    """CPU-seconds of making the small data."""
    fit_cpu_s: float
    fit_full_cpu_s: float
    """CPU-seconds of fitting each of ``models`` once, on the small data and on all data."""
    n_seeds: int
    n_models: int
    """Number of models fitted on both the small data and all data."""


def cells(trials: pl.DataFrame, metrics: Sequence[str] = METRICS, kept_of: str = PRIMARY) -> pl.DataFrame:
    """Summarises the trials of each method at each budget.

    Args:
        trials: Trials of any number of datasets.
        metrics: Metrics by which τ ranks the models; empty: omit τ, which takes most of the time.
        kept_of: Metric of the share kept.

    Returns:
        One row for each dataset, method and budget that has a model fitted on both the small data and all data, with
        the fields of :class:`CellSummary` as columns. A model whose metric is 0 on all data has nothing to keep, and is
        not compared.

        While a sweep is unfinished, cells with pending models are left out, unless all cells have pending models.
    """
    done = trials.filter(pl.col("status") == "done")
    full = {
        (one.key.fingerprint, one.key.seed, one.key.model): one
        for one in map(TrialRow.from_columns, done.filter(pl.col("method") == FULL).iter_rows(named=True))
        if one.metrics[kept_of]
    }
    found: list[CellSummary] = []
    small = trials.filter(pl.col("method") != FULL).sort(*_CELL, "seed", "model")
    for _, of_dataset in small.group_by("dataset", "fingerprint", maintain_order=True):
        groups = {
            key: [TrialRow.from_columns(row) for row in group.to_dicts()]
            for key, group in of_dataset.group_by(_CELL, maintain_order=True)
        }
        pairs = {key: _pairs(groups[key], full) for key in _ended(groups)}
        has, methods = {key: _models(of_cell) for key, of_cell in pairs.items()}, {key: key[2] for key in pairs}
        compared = common_models(has, methods)
        main = main_models(classes(served(has, methods)))
        every = {model for of_cell in pairs.values() for model in _models(of_cell)}
        for key, models in compared.items():
            found.append(_cell(pairs[key], models, models == main, every, metrics, kept_of))
    return pl.DataFrame([asdict(one) for one in found], schema=_COLUMNS).sort(*_CELL)


_COLUMNS: dict[str, Any] = {
    **{name: SCHEMA[name] for name in _CELL},
    "models": pl.List(pl.String),
    "common": pl.Boolean,
    "share": pl.Float64,
    **dict.fromkeys(("rows", "bytes", "tau", "tau_low", "tau_high", "tau_resampled"), pl.Float64),
    **dict.fromkeys(("kept", "kept_low", "kept_high", "new_low", "new_high"), pl.Float64),
    "kept_by_model": pl.String,
    **dict.fromkeys(("make_cpu_s", "fit_cpu_s", "fit_full_cpu_s"), pl.Float64),
    "n_seeds": pl.Int64,
    "n_models": pl.Int64,
}


_Pair = tuple[TrialRow, TrialRow]
"""Trials of a model and seed: on the full data and on the small data."""
_OfCell = dict[int, dict[str, _Pair]]
"""seed -> model -> its pair"""


def _ended(groups: Mapping[Any, list[TrialRow]]) -> list[Any]:
    """Returns the cells without pending trials (done or failed); all cells if every cell has pending trials."""
    tried = {key: {(row.key.model, row.key.seed) for row in group} for key, group in groups.items()}
    expected: dict[str, set[tuple[str, int]]] = {}
    for (_, _, method, _), ended in tried.items():
        expected.setdefault(method, set()).update(ended)
    whole = [key for key in groups if tried[key] == expected[key[2]]]
    return whole or list(groups)


def _pairs(group: list[TrialRow], full: Mapping[tuple[str, int, str], TrialRow]) -> _OfCell:
    pairs: _OfCell = {}
    for row in group:
        whole = full.get((row.key.fingerprint, row.key.seed, row.key.model))
        if whole is not None and row.status == "done":
            pairs.setdefault(row.key.seed, {})[row.key.model] = (whole, row)
    return pairs


def _models(of_cell: _OfCell) -> set[str]:
    """Returns the models that all seeds have, so that the means of all seeds cover the same models."""
    return set.intersection(*map(set, of_cell.values())) if of_cell else set()


def _cell(
    of_cell: _OfCell, models: Sequence[str], common: bool, every: Set[str], metrics: Sequence[str], kept_of: str
) -> CellSummary:
    """Summarises a cell on ``models``; τ is computed only if the cell has ``every`` model."""
    own = sorted(_models(of_cell))
    seeds = [[of_cell[seed][model] for model in own] for seed in sorted(of_cell)]
    taus = [_tau(of_seed, metrics) if set(own) == every else None for of_seed in seeds]
    known = [k for k, tau in enumerate(taus) if tau is not None]
    resampled = [_resampled_taus(of_seed, metrics) for of_seed in seeds]
    tau_spread = _spread([taus[k] for k in known], [resampled[k] for k in known])
    tau_low, tau_high = (None, None) if tau_spread is None else np.clip(tau_spread.of_mean, -1.0, 1.0).tolist()
    ratios = np.array([[_kept(*pair, kept_of) for pair in of_seed] for of_seed in seeds])
    columns = [own.index(model) for model in models]
    kept = ratios[:, columns]
    compared = [[of_seed[k] for k in columns] for of_seed in seeds]
    kept_spread = _spread(kept.mean(1).tolist(), [_resampled_kept(of_seed, kept_of) for of_seed in compared])
    kept_low, kept_high = _not_negative(None if kept_spread is None else kept_spread.of_mean)
    new_low, new_high = _not_negative(None if kept_spread is None else kept_spread.of_new)
    rows = [small for of_seed in seeds for _, small in of_seed]
    costs = [sum(_mean([of_seed[k][side].fit_cpu_s for of_seed in seeds]) or 0.0 for k in columns) for side in (0, 1)]
    key = rows[0].key
    return CellSummary(
        dataset=key.dataset,
        fingerprint=key.fingerprint,
        method=key.method,
        budget=key.budget,
        models=list(models),
        common=common,
        share=_mean([row.share for row in rows]),
        rows=_mean([row.rows for row in rows]),
        bytes=_mean([row.bytes for row in rows]),
        tau=float(np.mean([taus[k] for k in known])) if known else None,
        tau_low=tau_low,
        tau_high=tau_high,
        tau_resampled=_mean_over(resampled) if known else None,
        kept=float(kept.mean()),
        kept_low=kept_low,
        kept_high=kept_high,
        new_low=new_low,
        new_high=new_high,
        kept_by_model=json.dumps({model: float(value) for model, value in zip(own, ratios.mean(0))}),
        make_cpu_s=_mean([row.make_cpu_s for row in rows]),
        fit_cpu_s=costs[1],
        fit_full_cpu_s=costs[0],
        n_seeds=len(seeds),
        n_models=len(own),
    )


_Pairs = Sequence[_Pair]
"""Trial of one seed, for each model."""


def _tau(pairs: _Pairs, metrics: Sequence[str]) -> float | None:
    scores = [[[pair[side].metrics[metric] for pair in pairs] for side in (0, 1)] for metric in metrics]
    taus = [kendall_tau(*of_metric) for of_metric in scores]
    known = [tau for tau in taus if tau is not None]
    return sum(known) / len(known) if known else None


def _resampled_taus(pairs: _Pairs, metrics: Sequence[str]) -> np.ndarray | None:
    """Returns τ (see :func:`_tau`) over the users of each resample, float64 [resamples]; None without stored
    resamples."""
    if not metrics or any(row.resampled is None for pair in pairs for row in pair):
        return None
    found = []
    for metric in metrics:
        if metric == "auc":
            whole, small = (np.array([[pair[side].metrics[metric]] for pair in pairs]) for side in (0, 1))
        else:
            whole, small = (_resamples(pairs, side, metric) for side in (0, 1))
        found.append(_tau_b(whole, small))
    # The mean over the metrics that distinguish the models in this resample; auc is the same in all resamples.
    stacked = np.stack(np.broadcast_arrays(*found))
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0.0).sum(0) / known.sum(0)


def _tau_b(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Kendall's τ-b of each pair of columns of two arrays [models, n], float64 [n]; NaN if a column is
    constant."""
    left, right = np.triu_indices(len(first), 1)
    a, b = np.sign(first[left] - first[right]), np.sign(second[left] - second[right])
    with np.errstate(invalid="ignore"):
        return (a * b).sum(0) / np.sqrt((a != 0).sum(0) * (b != 0).sum(0))


def _resampled_kept(pairs: _Pairs, metric: str) -> np.ndarray | None:
    if metric == "auc" or any(row.resampled is None for pair in pairs for row in pair):
        return None
    whole, small = (_resamples(pairs, side, metric) for side in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, small / whole, np.nan).mean(0)


def _resamples(pairs: _Pairs, side: int, metric: str) -> np.ndarray:
    """Returns a metric over resampled users, float64 [models, resamples], of models with stored resamples."""
    return np.array([(pair[side].resampled or {})[metric] for pair in pairs], dtype=np.float64)


def _spread(by_seed: Sequence[float | None], resampled: Sequence[np.ndarray | None]) -> Spread | None:
    """Returns None if no seed has a value, or resamples are missing."""
    values = [value for value in by_seed if value is not None]
    kept = [of_seed for of_seed in resampled if of_seed is not None]
    return spread(values, np.array(kept)) if values and len(kept) == len(values) else None


def _not_negative(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (max(interval[0], 0.0), interval[1])


def _mean_over(by_seed: Sequence[np.ndarray | None]) -> float | None:
    """Returns the mean over resamples and seeds; None if resamples are missing or all NaN."""
    known = [values[~np.isnan(values)] for values in by_seed if values is not None]
    if len(known) < len(by_seed) or not sum(len(values) for values in known):
        return None
    return float(np.mean(np.concatenate(known)))


def _kept(whole: TrialRow, small: TrialRow, metric: str) -> float:
    return small.metrics[metric] / whole.metrics[metric]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
