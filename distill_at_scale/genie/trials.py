"""Trials of a sweep, one row each, and what they say of a method at a budget.

A trial fits one model with one seed on what one method left at one budget, and measures it on the full dataset's
held-out rows. :func:`cells` sums up the trials of one method at one budget; reports and Data-Genie read nothing else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import record_of
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.evaluation.intervals import Spread, spread
from distill_at_scale.evaluation.retention import DEFAULT_METRICS, PRIMARY, kendall_tau
from distill_at_scale.genie.common import classes, common_models, main_models, served

NAME, TRIALS = "sweep.json", "trials.parquet"
"""Files of a sweep: its dataset, settings and result; its trials."""
VERSION = 2
"""Schema version of sweep.json, which records trials.parquet: its current content and, while replaced, the next."""
FIX = "run the same das sweep again, which rebuilds it from its trials' records"
"""Remedy for damage, as the end of a sentence."""
FULL = "full"
"""The method that leaves everything."""
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
``reason``; ``rows``, ``share`` (of the full train rows) and ``bytes`` are of the small data (of a distiller: synthetic
users, their share of the users, and the bytes of their numbers); costs in seconds, of making the small data as if it
alone were made (a pass that serves several budgets costs each of them the same); metrics are fractions, on test rows;
``resampled`` holds their averages over resampled users (:class:`~distill_at_scale.evaluation.bootstrap.UserBootstrap`),
the same users for every trial of a dataset."""

KEY = ("fingerprint", "method", "budget", "seed", "model")
"""What tells trials apart."""

_CELL = ("dataset", "fingerprint", "method", "budget")


def as_trials(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows with some of the columns of :data:`SCHEMA` as trials; what is left out is null."""
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA)


def read_trials(uri: str) -> tuple[dict[str, Any], pl.DataFrame]:
    """What ``sweep.json`` says of a sweep, and its trials.

    Raises:
        DasError: The sweep does not exist, or none of its trials has ended.
        DamagedFileError: when a file of it is.
    """
    uri = storage.normalise(uri)
    place = storage.redact(uri)
    try:
        described = read_description(uri)
        content = storage.read_bytes(storage.join(uri, TRIALS))
    except FileNotFoundError:
        raise DasError(f"{place} is not a sweep: it has no {NAME} with {TRIALS}; das sweep makes one.") from None
    file = storage.join(uri, TRIALS)
    # The first version had no record of them.
    if described.get("version", 1) != 1 and record_of(TRIALS, content).model_dump() not in described["trials"]:
        raise DamagedFileError(f"{storage.redact(file)} differs from its checksum; {FIX}.")
    with recorded.parsing(file, FIX):
        trials = pl.read_parquet(io.BytesIO(content))
    if trials.is_empty():
        raise DasError(f"{place}: no trial of the sweep has ended yet; run the same das sweep again.")
    return described, trials


def read_description(uri: str) -> dict[str, Any]:
    """What ``sweep.json`` says of the sweep at ``uri``.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: it has been altered.
    """
    file = storage.join(uri, NAME)
    described, checksum = recorded.parse_json(storage.read_bytes(file), file, FIX)
    recorded.require_checksum(described, checksum, file, FIX)
    return described


def advice_order(common: bool, kept: float, budget: float, keep: float) -> tuple[bool, bool, float, float]:
    """Sorts small datasets, the most advisable first: those compared on the models that most have in common; of them
    those that keep enough, by budget and then by what they keep; then the others by what they keep.

    Args:
        common: whether it is compared on these models.
        kept: share of the full data's quality.
        budget: its size.
        keep: share asked for.
    """
    enough = kept >= keep
    return not common, not enough, budget if enough else 0.0, -kept


def cells(trials: pl.DataFrame, metrics: Sequence[str] = METRICS, kept_of: str = PRIMARY) -> pl.DataFrame:
    """What every method keeps at every budget.

    Args:
        trials: Trials of any number of datasets.
        metrics: whose rankings of the models are compared; none leaves out τ, which takes most of the time.
        kept_of: The metric of which a share is kept.

    Returns:
        One row for each dataset, method and budget with a model done on both sides. ``share``, ``rows``, ``bytes``
        (means). ``models``: those on which it is compared with the cells of its dataset that have the same here
        (:func:`~distill_at_scale.genie.common.common_models`); ``common``: whether most methods are compared on
        these. ``tau``, ``tau_low``, ``tau_high``: Kendall's τ-b between all models' scores when fitted on all and on
        the small data, mean over metrics and seeds, with a 90 % interval over other users and seeds
        (:mod:`~distill_at_scale.evaluation.intervals`; of one seed: over users only; ``auc``, a mean over rows, is not
        resampled); null where a model of the dataset's other cells is missing, since a ranking of fewer is easier to
        keep, and where no metric tells the models apart. ``tau_resampled``: the mean of τ over resampled users, in
        which a pair of models that are about as good counts little either way. ``kept``, ``kept_low``, ``kept_high``:
        share of ``kept_of`` that is kept, mean over ``models`` and seeds, likewise; ``new_low``, ``new_high``: 90 %
        interval of what one new sample, of another seed, would keep, null with one seed; ``kept_by_model``: JSON, of
        every model. ``make_cpu_s``; ``fit_cpu_s`` and ``fit_full_cpu_s``: of fitting each of ``models`` once, on the
        small data and on all. ``n_seeds``; ``n_models``, that were done on both sides.

        While a sweep is unfinished, cells that wait for a model are left out as long as there are others.
    """
    done = trials.filter(pl.col("status") == "done")
    full = {
        (row["fingerprint"], row["seed"], row["model"]): row
        for row in done.filter(pl.col("method") == FULL).iter_rows(named=True)
    }
    found = []
    small = trials.filter(pl.col("method") != FULL).sort(*_CELL, "seed", "model")
    for _, of_dataset in small.group_by("dataset", "fingerprint", maintain_order=True):
        groups = {key: group.to_dicts() for key, group in of_dataset.group_by(_CELL, maintain_order=True)}
        pairs = {key: _pairs(groups[key], full) for key in _ended(groups)}
        has, methods = {key: _models(of_cell) for key, of_cell in pairs.items()}, {key: key[2] for key in pairs}
        compared = common_models(has, methods)
        main = main_models(classes(served(has, methods)))
        every = {model for of_cell in pairs.values() for model in _models(of_cell)}
        for key, models in compared.items():
            about = {"models": list(models), "common": models == main}
            named: dict[str, Any] = dict(zip(_CELL, key))
            found.append({**named, **about, **_cell(pairs[key], models, every, metrics, kept_of)})
    return pl.DataFrame(found, schema=_CELLS).sort(*_CELL)


_CELLS: dict[str, Any] = {
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


_Pair = tuple[dict[str, Any], dict[str, Any]]
"""Pairs of trials per model and seed: on the full data and on the small data."""
_OfCell = dict[int, dict[str, _Pair]]
"""seed -> model -> its pair"""


def _ended(groups: Mapping[Any, list[dict[str, Any]]]) -> list[Any]:
    """The cells that wait for no model, whether it was done or failed; all of them where each waits for some."""
    tried = {key: {(row["model"], row["seed"]) for row in group} for key, group in groups.items()}
    expected: dict[str, set[tuple[str, int]]] = {}
    for (_, _, method, _), ended in tried.items():
        expected.setdefault(method, set()).update(ended)
    whole = [key for key in groups if tried[key] == expected[key[2]]]
    return whole or list(groups)


def _pairs(group: list[dict[str, Any]], full: Mapping[tuple[str, int, str], dict[str, Any]]) -> _OfCell:
    pairs: _OfCell = {}
    for row in group:
        whole = full.get((row["fingerprint"], row["seed"], row["model"]))
        if whole is not None and row["status"] == "done":
            pairs.setdefault(row["seed"], {})[row["model"]] = (whole, row)
    return pairs


def _models(of_cell: _OfCell) -> set[str]:
    """The same models for every seed, or a seed with a model less would count for another thing."""
    return set.intersection(*map(set, of_cell.values())) if of_cell else set()


def _cell(
    of_cell: _OfCell, models: Sequence[str], every: Set[str], metrics: Sequence[str], kept_of: str
) -> dict[str, Any]:
    """What a cell keeps: on ``models``; its ranking is one of ``every`` model or none."""
    own = sorted(_models(of_cell))
    seeds = [[of_cell[seed][model] for model in own] for seed in sorted(of_cell)]
    taus = [_tau(of_seed, metrics) if set(own) == every else None for of_seed in seeds]
    known = [k for k, tau in enumerate(taus) if tau is not None]
    resampled = [_resampled_taus(of_seed, metrics) for of_seed in seeds]
    tau_spread = _spread([taus[k] for k in known], [resampled[k] for k in known])
    tau_low, tau_high = (None, None) if tau_spread is None else np.clip(tau_spread.of_mean, -1.0, 1.0).tolist()
    ratios = np.array([[_ratio(small[kept_of], whole[kept_of]) for whole, small in of_seed] for of_seed in seeds])
    columns = [own.index(model) for model in models]
    kept = ratios[:, columns]
    compared = [[of_seed[k] for k in columns] for of_seed in seeds]
    kept_spread = _spread(kept.mean(1).tolist(), [_resampled_kept(of_seed, kept_of) for of_seed in compared])
    kept_low, kept_high = _not_negative(None if kept_spread is None else kept_spread.of_mean)
    new_low, new_high = _not_negative(None if kept_spread is None else kept_spread.of_new)
    rows = [small for of_seed in seeds for _, small in of_seed]
    costs = [
        sum(_mean([of_seed[k][side]["fit_cpu_s"] for of_seed in seeds]) or 0.0 for k in columns) for side in (0, 1)
    ]
    return {
        **{name: _mean([row[name] for row in rows]) for name in ("share", "rows", "bytes", "make_cpu_s")},
        "tau": float(np.mean([taus[k] for k in known])) if known else None,
        "tau_low": tau_low,
        "tau_high": tau_high,
        "tau_resampled": _mean_over(resampled) if known else None,
        "kept": float(kept.mean()),
        "kept_low": kept_low,
        "kept_high": kept_high,
        "new_low": new_low,
        "new_high": new_high,
        "kept_by_model": json.dumps({model: float(value) for model, value in zip(own, ratios.mean(0))}),
        "fit_cpu_s": costs[1],
        "fit_full_cpu_s": costs[0],
        "n_seeds": len(seeds),
        "n_models": len(own),
    }


_Pairs = Sequence[_Pair]
"""Trial of one seed, for each model."""


def _tau(pairs: _Pairs, metrics: Sequence[str]) -> float | None:
    taus = [kendall_tau([whole[m] for whole, _ in pairs], [small[m] for _, small in pairs]) for m in metrics]
    known = [tau for tau in taus if tau is not None]
    return sum(known) / len(known) if known else None


def _resampled_taus(pairs: _Pairs, metrics: Sequence[str]) -> np.ndarray | None:
    """float64 [resamples]: τ as :func:`_tau` has it, over each resample's users; None where they were not kept."""
    if not metrics or any(row["resampled"] is None for pair in pairs for row in pair):
        return None
    found = []
    for metric in metrics:
        if metric == "auc":
            whole, small = (np.array([[pair[side][metric]] for pair in pairs]) for side in (0, 1))
        else:
            whole, small = (np.array([pair[side]["resampled"][metric] for pair in pairs]) for side in (0, 1))
        found.append(_tau_b(whole, small))
    # A mean over the metrics that tell the models apart in this resample; auc is one number for all.
    stacked = np.stack(np.broadcast_arrays(*found))
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0.0).sum(0) / known.sum(0)


def _tau_b(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 [n]: Kendall's τ-b of each pair of columns of two [models, n]; NaN where one of them is constant."""
    left, right = np.triu_indices(len(first), 1)
    a, b = np.sign(first[left] - first[right]), np.sign(second[left] - second[right])
    with np.errstate(invalid="ignore"):
        return (a * b).sum(0) / np.sqrt((a != 0).sum(0) * (b != 0).sum(0))


def _resampled_kept(pairs: _Pairs, metric: str) -> np.ndarray | None:
    if metric == "auc" or any(row["resampled"] is None for pair in pairs for row in pair):
        return None
    whole, small = (np.array([pair[side]["resampled"][metric] for pair in pairs], dtype=np.float64) for side in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, small / whole, np.nan).mean(0)


def _spread(by_seed: Sequence[float | None], resampled: Sequence[np.ndarray | None]) -> Spread | None:
    """None where no seed has a value, or resamples were not kept."""
    values = [value for value in by_seed if value is not None]
    kept = [of_seed for of_seed in resampled if of_seed is not None]
    return spread(values, np.array(kept)) if values and len(kept) == len(values) else None


def _not_negative(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (max(interval[0], 0.0), interval[1])


def _mean_over(by_seed: Sequence[np.ndarray | None]) -> float | None:
    """Over resamples and seeds; None where they were not kept or tell nothing."""
    known = [values[~np.isnan(values)] for values in by_seed if values is not None]
    if len(known) < len(by_seed) or not sum(len(values) for values in known):
        return None
    return float(np.mean(np.concatenate(known)))


def _ratio(small: float, whole: float) -> float:
    return small / whole if whole else float("nan")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
