"""Learning curves of real logs: fits on random_users at the rungs of a forecast, and on all rows.

    python jobs/bench_curves.py --logs FOLDER --work WORK [--only ml-100k,toys] [--time-budget 240]

Fits one after another, each once: stops when its time is up, and goes on when it is called again. bench_forecast.py
judges forecasts by what this measures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.genie import log_subsets
from distill_at_scale.genie.trials import as_trials
from distill_at_scale.pipelines.prepare import prepare
from distill_at_scale.pipelines.runtime import session
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.evaluations import train_here
from distill_at_scale.pipelines.sweeps.trial_plan import PlannedTrial, plan_trials, sources

RANDOM_USERS = "random_users"
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


def _part(users: int, seed: int, items: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The rows of random users on the most popular items."""
    return lambda log: log_subsets.random_users(log_subsets.popular_items(log, items), users, seed)


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
    "toys": Log(TOYS, "leave_2", None, ("popularity", "svd_ae"), 1),
    "beauty": Log(BEAUTY, "leave_2", None, ("popularity", "svd_ae"), 1),
    "ml-1m--hits": Log(ML1M, HIST, _part(1500, 1, 400), seeds=1),
    "yelp--hits": Log(YELP, HIST, _part(2500, 1, 500), seeds=1),
    "toys--hits": Log(TOYS, HIST, _part(2500, 1, 500), seeds=1),
    "amazon--hits": Log(AMAZON, HIST, _part(2500, 1, 500), seeds=1),
    "beauty--hits": Log(BEAUTY, HIST, _part(2500, 1, 500), seeds=1),
    "ml-100k--hits": Log(ML100K, HIST, _part(943, 1, 250), seeds=1),
    "ml-1m--more": Log(ML1M, HIST, _part(2500, 2, 300), seeds=1),
    "yelp--more": Log(YELP, HIST, _part(4000, 2, 300), seeds=1),
    "toys--more": Log(TOYS, HIST, _part(4000, 2, 300), seeds=1),
    "amazon--more": Log(AMAZON, HIST, _part(4000, 2, 300), seeds=1),
    "beauty--more": Log(BEAUTY, HIST, _part(4000, 2, 300), seeds=1),
    "ml-1m--a": Log(ML1M, HIST, lambda log: log_subsets.popular_items(_random(2000, 1)(log), 1500), ALL),
    "ml-1m--b": Log(ML1M, HIST, lambda log: log_subsets.active_users(log, 1500, most=False), ALL),
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
    parser.add_argument("--logs", type=Path, help="folder of the logs' files")
    parser.add_argument("--work", type=Path, required=True, help="folder of datasets and sweeps")
    parser.add_argument("--only", default="", help="names of logs")
    parser.add_argument("--time-budget", type=float, default=240.0, help="seconds")
    options = parser.parse_args()
    measure(options.logs, options.work, [n for n in options.only.split(",") if n], options.time_budget)


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
        for job in small_datasets.batches([RANDOM_USERS], RUNGS, seed, full.uri, output, {})
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
    rows = log.cut(log_subsets.read_log(Dataset.open(source)))
    # Times of sequences are positions, which no log has.
    rows.drop(Columns.TIMESTAMP if log.file in (BEAUTY, TOYS) else []).write_parquet(cut)
    return prepare(input=[str(cut)], output=uri, split=log.split, min_user=3, shards=1).uri


if __name__ == "__main__":
    main()
