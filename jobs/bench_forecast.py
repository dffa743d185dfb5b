"""How far off are forecasts? Learning curves of real logs from small nested samples, against fits on all rows.

    python jobs/bench_forecast.py measure --logs FOLDER --work WORK [--only ml-100k,toys] [--time-budget 240s]
    python jobs/bench_forecast.py judge --work WORK --output jobs/results/forecast.json
    python jobs/bench_forecast.py calibrate --work WORK --output distill_at_scale/learning_curves/calibration.json

``measure`` fits models on random_users at the rungs of a forecast and on all rows, one after another; it goes on where
it was.
``judge`` forecasts each log from its rungs up to a tenth, and up to a fifth, and compares with the fits on all rows;
the calibration comes from the logs of other families. ``calibrate`` makes that of the package, of all logs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.genie import log_subsets
from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.trials import FULL, as_trials
from distill_at_scale.learning_curves.calibration import Calibration
from distill_at_scale.learning_curves.cost import cost_law
from distill_at_scale.learning_curves.ensemble import rung_weights
from distill_at_scale.learning_curves.forecast import Forecast
from distill_at_scale.learning_curves.forms import FORMS, fit
from distill_at_scale.learning_curves.measured import Measured
from distill_at_scale.learning_curves.order import expected_tau
from distill_at_scale.pipelines.forecast import measured
from distill_at_scale.pipelines.prepare import prepare
from distill_at_scale.pipelines.runtime import session
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.evaluations import train_here
from distill_at_scale.pipelines.sweeps.trial_plan import PlannedTrial, plan_trials, sources

UP_TO = (0.1, 0.2)
FLOOR = 0.02
"""Relative half-width of the surest forecast, before it is widened."""
RUNGS = (0.2, 0.1, 0.05, 0.025, 0.0125, 0.00625)
ALL = ("popularity", "ease", "svd_ae", "infinite_ae")
FAST = ("popularity", "ease", "svd_ae")


@dataclass(frozen=True)
class Log:
    """A log to be forecast: its file, how it is split, what is cut from it, and the models fitted on it."""

    file: str
    split: str
    cut: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    models: tuple[str, ...] = ALL
    seeds: int = 2


def _random(n: int, seed: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda log: log_subsets.random_users(log, n, seed)


def _window(begin: float, end: float) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda log: log_subsets.window(log, begin, end)


ML100K, ML1M, BEAUTY, TOYS = "ml-100k.inter", "ml-1m.parquet", "amazon-beauty-5core.txt", "amazon-toys-5core.txt"
AMAZON, YELP = "amazon-ratings.tsv", "yelp-ratings.tsv"
HIST = "20_percent_hist"
COLUMNS: dict[str, dict[str, Any]] = {
    AMAZON: {"columns": ["user_id", "item_id", "rating", "timestamp"]},
    YELP: {"columns": ["user_id", "item_id", "rating"]},
}
"""How files without column names are read."""
LOGS: dict[str, Log] = {
    "ml-100k": Log(ML100K, "leave_2"),
    "ml-100k--hist": Log(ML100K, HIST),
    "amazon": Log(AMAZON, HIST, models=FAST, seeds=1),
    "yelp": Log(YELP, HIST, lambda log: log_subsets.popular_items(log, 3000), FAST, 1),
    "toys": Log(TOYS, "leave_2", lambda log: log_subsets.popular_items(log, 3000), FAST, 1),
    "beauty": Log(BEAUTY, "leave_2", lambda log: log_subsets.popular_items(log, 3000), FAST, 1),
    "ml-1m--a": Log(ML1M, HIST, lambda log: log_subsets.popular_items(_random(2000, 1)(log), 1500), ALL),
    "ml-1m--b": Log(ML1M, HIST, lambda log: log_subsets.active_users(log, 1500, most=False), ALL),
    "amazon--hits": Log(AMAZON, HIST, lambda log: log_subsets.popular_items(log, 800), FAST, 1),
    "yelp--hits": Log(YELP, HIST, lambda log: log_subsets.popular_items(log, 1000), ALL, 1),
    "ml-100k--a": Log(ML100K, HIST, lambda log: log_subsets.popular_items(log, 600)),
    "beauty--active": Log(
        BEAUTY, HIST, lambda log: log_subsets.popular_items(log_subsets.active_users(log, 4000), 2000), FAST, 1
    ),
    "toys--active": Log(
        TOYS, HIST, lambda log: log_subsets.popular_items(log_subsets.active_users(log, 4000), 2000), FAST, 1
    ),
    "ml-1m--leave-2": Log(ML1M, "leave_2", lambda log: log_subsets.popular_items(_random(2500, 3)(log), 1000), FAST, 1),
    "ml-1m": Log(ML1M, HIST, None, FAST, 1),
    "amazon--early": Log(AMAZON, HIST, _window(0.0, 0.5), FAST, 1),
    "amazon--late": Log(AMAZON, HIST, _window(0.5, 1.0), FAST, 1),
    "yelp--a": Log(YELP, HIST, lambda log: log_subsets.popular_items(_random(4000, 1)(log), 2000), FAST, 1),
    "yelp--b": Log(YELP, HIST, lambda log: log_subsets.popular_items(_random(4000, 2)(log), 500), FAST, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "judge", "calibrate"])
    parser.add_argument("--logs", type=Path, help="folder of the logs' files")
    parser.add_argument("--work", type=Path, required=True, help="folder of datasets and sweeps")
    parser.add_argument("--only", default="", help="names of logs")
    parser.add_argument("--output", type=Path, help="file for the result, as JSON")
    parser.add_argument("--time-budget", type=float, default=240.0, help="seconds")
    options = parser.parse_args()
    if options.what == "measure":
        measure(options.logs, options.work, [n for n in options.only.split(",") if n], options.time_budget)
        return
    command = f"python jobs/bench_forecast.py {options.what} --work WORK"
    cells = read(options.work)
    result = judge(cells) if options.what == "judge" else calibrated(cells)
    options.output.write_text(json.dumps({"command": command, **result}, indent=1) + "\n")


def measure(logs: Path, work: Path, only: list[str], budget_s: float) -> None:
    """Fits what is not there yet; stops after ``budget_s`` and goes on when called again."""
    end = time.monotonic() + budget_s
    for name, log in LOGS.items():
        if only and name not in only:
            continue
        place = work / "trials" / f"{name}.parquet"
        if place.exists() or time.monotonic() > end:
            continue
        tasks = _tasks(name, log, logs, work)
        for trial in tasks:
            if time.monotonic() > end:
                break
            assert trial.task is not None
            if trial.task.read() is None:
                train_here(trial.task)
        else:
            full = Dataset.open(_dataset(name, log, logs, work))
            rows = [trial.row(full, trial.task.read() if trial.task else None, "") for trial in tasks]
            place.parent.mkdir(parents=True, exist_ok=True)
            as_trials([row for row in rows if row is not None]).write_parquet(place)
            print(f"{name}: {len(rows)} trials", flush=True)


def _tasks(name: str, log: Log, logs: Path, work: Path) -> list[PlannedTrial]:
    """A trial for every model on every rung and on all rows, as a sweep plans them."""
    full, output = Dataset.open(_dataset(name, log, logs, work)), storage.normalise(str(work / "sweeps" / name))
    jobs = [
        job
        for seed in range(log.seeds)
        for job in small_datasets.batches(["random_users"], RUNGS, seed, full.uri, output, {})
    ]
    for job in jobs:
        if not job.is_done:
            with session.ensure():
                small_datasets.make(job)
    made = {job.key: job.read() for job in jobs}
    found = [one for one in sources(full, 1, jobs, made, {}) if one.made is not None]
    return plan_trials(full, found, log.models, {}, output, small_datasets.learns)


def _dataset(name: str, log: Log, logs: Path, work: Path) -> str:
    uri, source = str(work / "data" / name), str(work / "sources" / log.file)
    if storage.exists(storage.join(storage.normalise(uri), MANIFEST)):
        return uri
    if log.cut is None:
        return prepare(
            input=[str(logs / log.file)], output=uri, split=log.split, min_user=3, shards=1, **COLUMNS.get(log.file, {})
        ).uri
    if not storage.exists(storage.join(storage.normalise(source), MANIFEST)):
        prepare(input=[str(logs / log.file)], output=source, split=HIST, shards=1, **COLUMNS.get(log.file, {}))
    cut = work / "logs" / f"{name}.parquet"
    cut.parent.mkdir(parents=True, exist_ok=True)
    log.cut(log_subsets.read_log(Dataset.open(source))).write_parquet(cut)
    return prepare(input=[str(cut)], output=uri, split=log.split, min_user=3, shards=1).uri


@dataclass(frozen=True)
class Cell:
    """A model on a log, from rungs up to a share, and what its fit on all rows gave."""

    log: str
    up_to: float
    rungs: Measured
    quality: float
    cost: float

    @property
    def family(self) -> str:
        """What the log was cut from."""
        return self.log.partition("--")[0]


def read(work: Path) -> list[Cell]:
    """All models of all logs whose measurement has ended."""
    found = []
    for file in sorted((work / "trials").glob("*.parquet")):
        trials = pl.read_parquet(file)
        for up_to in UP_TO:
            few = trials.filter(pl.col("method") != FULL, pl.col("budget") <= up_to + 1e-9)
            for model in trials["model"].unique().sort():
                rungs, _ = measured(few, model, few["seed"].n_unique())
                (full,) = trials.filter(method=FULL, model=model).to_dicts()
                if rungs is not None and full[PRIMARY]:
                    found.append(Cell(file.stem, up_to, rungs, full[PRIMARY], full["fit_cpu_s"]))
    return found


def calibrated(cells: list[Cell]) -> dict[str, Any]:
    """The calibration that logs teach: weights of the forms by their errors, factors by which intervals hold."""
    prior = {}
    for name, form in FORMS.items():
        errors: dict[str, list[float]] = {}
        for cell in cells:
            shares, mean = cell.rungs.shares, cell.rungs.quality.mean(0, keepdims=True)
            alone = fit(form, shares, mean, rung_weights(shares)).at(np.array([1.0]))[0, 0]
            errors.setdefault(cell.family, []).append(min(abs(math.log(max(alone, 1e-9) / cell.quality)), 1.0) ** 2)
        prior[name] = 1.0 / (float(np.mean([np.median(of) for of in errors.values()])) + 0.02**2)
    total = sum(prior.values())
    prior = {name: round(weight / total, 4) for name, weight in prior.items()}
    plain = Calibration(prior, FLOOR, np.array([1.0]), np.array([1.0]))
    scores: dict[float, list[tuple[str, float]]] = {up_to: [] for up_to in UP_TO}
    for cell in cells:
        quality, _, high = Forecast(cell.rungs, plain).at_all
        half = math.log(min(high / quality, 1e9)) if high < 1 else math.inf
        scores[cell.up_to].append((cell.family, abs(math.log(cell.quality / quality)) / half))
    factors = []
    for up_to, of in scores.items():
        families = np.array([family for family, _ in of])
        found = widths(np.array([score for _, score in of]), np.zeros(len(of)), families)
        factors.append({"up_to": up_to, "factor": round(max(float(found.halves[0]), 1.0), 3)})
    return {"logs": sorted({cell.log for cell in cells}), "prior": prior, "floor": FLOOR, "factors": factors}


def as_calibration(found: dict[str, Any]) -> Calibration:
    """A calibration as the forecast takes it."""
    largest, factors = ([step[key] for step in found["factors"]] for key in ("up_to", "factor"))
    return Calibration(found["prior"], found["floor"], np.array(largest), np.array(factors))


def judge(cells: list[Cell]) -> dict[str, Any]:
    """Forecasts with a calibration from other families, against fits on all rows."""
    rows: list[dict[str, Any]] = []
    by_log: dict[tuple[str, float], list[tuple[Forecast, Cell]]] = {}
    for family in sorted({cell.family for cell in cells}):
        calibration = as_calibration(calibrated([cell for cell in cells if cell.family != family]))
        for cell in cells:
            if cell.family == family:
                by_log.setdefault((cell.log, cell.up_to), []).append((Forecast(cell.rungs, calibration), cell))
    for (log, up_to), several in by_log.items():
        for forecast, cell in several:
            quality, low, high = forecast.at_all
            law = cost_law(cell.rungs.shares, cell.rungs.cost)
            rows.append(
                {
                    "log": log,
                    "model": cell.rungs.model,
                    "up_to": up_to,
                    "seeds": cell.rungs.n_seeds,
                    "full": round(cell.quality, 5),
                    "forecast": round(quality, 5),
                    "low": round(low, 5),
                    "high": round(high, 5),
                    "error": round(quality / cell.quality - 1, 4),
                    "held": low <= cell.quality <= high,
                    "last_rung_error": round(float(cell.rungs.quality[:, -1].mean()) / cell.quality - 1, 4),
                    "law_like": not forecast.doubt,
                    "full_cpu_s": round(cell.cost, 3),
                    "full_cpu_s_forecast": round(law.at(1.0), 3),
                    "spent_cpu_s": round(float(cell.rungs.cost.sum()), 3),
                }
            )
    summary = []
    for up_to in UP_TO:
        own = pl.DataFrame([row for row in rows if row["up_to"] == up_to])
        taus = [_tau(several) for (_, share), several in by_log.items() if share == up_to]
        summary.append(
            {
                "up_to": up_to,
                "logs": own["log"].n_unique(),
                "forecasts": len(own),
                "median_error": _median(own["error"].abs()),
                "median_error_law_like": _median(own.filter("law_like")["error"].abs()),
                "median_error_of_the_last_rung": _median(own["last_rung_error"].abs()),
                "bias": _median(own["error"]),
                "held": round(float(own["held"].cast(pl.Float64).mean() or 0), 3),
                "median_width": _median((own["high"] / own["low"]).log() / 2),
                "tau": round(float(np.mean([tau for tau, _ in taus])), 3),
                "tau_expected": round(float(np.mean([expected for _, expected in taus])), 3),
                "spent_of_full_cpu_s": round(float(own["spent_cpu_s"].sum() / own["full_cpu_s"].sum()), 3),
                "spent_of_full_cpu_s_one_seed": round(
                    float((own["spent_cpu_s"] / own["seeds"]).sum() / own["full_cpu_s"].sum()), 3
                ),
                "median_cost_ratio": _median(own["full_cpu_s_forecast"] / own["full_cpu_s"]),
            }
        )
    return {"summary": summary, "forecasts": rows}


def _tau(several: list[tuple[Forecast, Cell]]) -> tuple[float, float]:
    """Kendall's τ of the forecast order with that on all rows, and as it was expected."""
    tau = kendall_tau([one.at_all[0] for one, _ in several], [cell.quality for _, cell in several])
    expected = expected_tau([one for one, _ in several])
    return tau or 0.0, expected[0] if expected else 0.0


def _median(values: pl.Series) -> float:
    return round(float(values.median() or 0.0), 4)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
