"""Learning curves of real logs: fits on nested samples of whole users, at the rungs of a forecast, and on all rows.

    python jobs/bench_curves.py --logs FOLDER --work WORK [--only ml-1m,toys] [--time-budget 240]

Fits run one after another in this process. The job stops when its time is up, and resumes when it is called again. As
in `das forecast`, a sample's fit selects its settings around those of the next smaller sample. Cuts of a log have some
of its users and items. Users are ordered by a hash, as in the sampler random_users, and each sample is a prefix of that
order. bench_forecast.py evaluates forecasts with these measurements.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.data import hashing, ragged, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.evaluation.bootstrap import UserBootstrap
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.trials import FULL
from distill_at_scale.learning_curves.rungs import nested_shares
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.prepare import prepare

RANDOM_USERS = "random_users"
UP_TO, RUNGS = (0.1, 0.2), 3
"""Shares of the largest samples, and how many there are up to each."""
FAST = ("popularity", "ease", "svd_ae")
ALL = (*FAST, "infinite_ae")
Split = dict[str, Interactions]
Cut = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the numbers of train rows of users and of items to those that stay, as bool."""
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "ml-100k": ("ml-100k.inter", {}),
    "ml-1m": ("ml-1m.parquet", {}),
    "beauty": ("amazon-beauty-5core.txt", {}),
    "toys": ("amazon-toys-5core.txt", {}),
    "amazon": ("amazon-ratings.tsv", {"columns": ["user_id", "item_id", "rating", "timestamp"]}),
    "yelp": ("yelp-ratings.tsv", {"columns": ["user_id", "item_id", "rating"]}),
}
"""Source -> its file and how it is read."""


@dataclass(frozen=True)
class Log:
    """A log to be forecast: what it is cut from and how, the models fitted on it, and the samples' seeds."""

    source: str
    cut: Cut | None = None
    models: tuple[str, ...] = ALL
    seeds: int = 2


def part(users: int | None, items: int | None, seed: int = 0, active: bool = False, tail: bool = False) -> Cut:
    """Random users, or the most active; the most popular items, or the least."""

    def cut(of_users: np.ndarray, of_items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(hashing.stream("bench_curves/cut", seed))
        by = -of_users if active else rng.random(len(of_users))
        return _first(by, users), _first(of_items if tail else -of_items, items)

    return cut


def _first(by: np.ndarray, n: int | None) -> np.ndarray:
    chosen = np.ones(len(by), dtype=bool)
    if n is not None:
        chosen[np.argsort(by, kind="stable")[n:]] = False
    return chosen


LOGS: dict[str, Log] = {
    "ml-100k": Log("ml-100k"),
    "amazon--2k": Log("amazon", part(2000, 1500, 1)),
    "ml-1m--2k": Log("ml-1m", part(2000, 2000, 1), seeds=1),
    "yelp--4k": Log("yelp", part(4000, 2000, 1), FAST, 1),
    "toys--hits": Log("toys", part(4000, 1000, 1), FAST, 1),
    "beauty--hits": Log("beauty", part(4000, 1000, 1), FAST, 1),
    "amazon": Log("amazon", None, FAST, 1),
    "ml-1m": Log("ml-1m", None, FAST, 1),
    "yelp--items": Log("yelp", part(None, 3000), FAST, 1),
    "beauty--items": Log("beauty", part(None, 3000), FAST, 1),
    "toys--items": Log("toys", part(None, 3000), FAST, 1),
    "ml-100k--items": Log("ml-100k", part(None, 600)),
    "ml-100k--tail": Log("ml-100k", part(None, 1400, tail=True)),
    "amazon--active": Log("amazon", part(2000, 1200, active=True)),
    "ml-1m--hits": Log("ml-1m", part(3000, 500, 2), seeds=1),
    "yelp--active": Log("yelp", part(2000, 1500, active=True), seeds=1),
    "beauty--active": Log("beauty", part(3000, 2000, active=True), FAST, 1),
    "toys--active": Log("toys", part(3000, 2000, active=True), FAST, 1),
    "ml-1m--active": Log("ml-1m", part(1500, 1500, active=True), seeds=1),
    "ml-1m--tail": Log("ml-1m", part(4000, 2500, 3, tail=True), FAST, 1),
    "amazon--hits": Log("amazon", part(None, 600)),
    "yelp--hits": Log("yelp", part(None, 600), FAST),
    "beauty--wide": Log("beauty", part(12_000, 2000, 4), FAST, 1),
    "toys--wide": Log("toys", part(12_000, 2000, 4), FAST, 1),
    "beauty": Log("beauty", None, ("popularity", "svd_ae"), 1),
    "toys": Log("toys", None, ("popularity", "svd_ae"), 1),
    "yelp": Log("yelp", None, ("popularity", "svd_ae"), 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, required=True, help="folder of the logs' files")
    parser.add_argument("--work", type=Path, required=True, help="folder of datasets and trials")
    parser.add_argument("--only", default="", help="names of logs")
    parser.add_argument("--time-budget", type=float, default=240.0, help="seconds")
    options = parser.parse_args()
    end = time.monotonic() + options.time_budget
    for name in [n for n in options.only.split(",") if n] or LOGS:
        target = options.work / "trials" / f"{name}.parquet"
        if not target.exists() and time.monotonic() < end:
            measure(name, LOGS[name], options.logs, options.work, target, end)


def measure(name: str, log: Log, logs: Path, work: Path, target: Path, end: float) -> None:
    """Fits what is not there yet, until ``end``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    record = target.with_suffix(".jsonl")
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(row["model"], row["up_to"], row["budget"], row["seed"]) for row in rows}
    split = _split(log, logs, work)
    shares = {1.0: [1.0], **{up_to: nested_shares(len(split["train"]), up_to, RUNGS) for up_to in UP_TO}}
    wanted = [(up_to, seed) for seed in range(log.seeds) for up_to in UP_TO]
    for model in log.models:
        trials = [(up_to, budget, seed) for up_to, seed in [(1.0, 0), *wanted] for budget in shares[up_to]]
        for up_to, budget, seed in trials:
            if (model, up_to, budget, seed) in done:
                continue
            if time.monotonic() > end:
                return
            own = (model, up_to, seed)
            smaller = [row for row in rows if (row["model"], row["up_to"], row["seed"]) == own]
            around = smaller[-1]["around"] if smaller and not find_model(model).grid_in_one else None
            rows.append({"up_to": up_to, **_trial(split, model, budget, seed, around)})
            with record.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    pl.DataFrame(rows).write_parquet(target)
    print(f"{name}: {len(rows)} trials", flush=True)


def _trial(split: Split, model: str, budget: float, seed: int, around: list[float] | None) -> dict[str, Any]:
    """One fit, with a grid if one is given, and its evaluation on the test rows of all users."""
    train, test = split["train"], split["test"]
    sample = train if budget == 1.0 else _sample(train, budget, seed)
    warm_up(model, {})
    clock = [time.process_time()]
    fitted = create_model(model, {} if around is None else {"grid": around}).fit(sample, split["validation"])
    clock.append(time.process_time())
    bootstrap = UserBootstrap(0)
    evaluator = RankingEvaluator(np.ones(train.n_items), (10,), n_negatives=0, bootstrap=bootstrap)
    evaluator.add_all(fitted.score, split["histories"], test)
    clock.append(time.process_time())
    return {
        "model": model,
        "method": FULL if budget == 1.0 else RANDOM_USERS,
        "budget": budget,
        "seed": seed,
        "status": "done",
        "reason": "",
        "share": sample.n_rows / train.n_rows,
        "rows": sample.n_rows,
        "users": int((sample.counts > 0).sum()),
        "items": train.n_items,
        PRIMARY: evaluator.result().metrics[PRIMARY],
        "resampled": {PRIMARY: bootstrap.rounded_means()[PRIMARY]},
        "around": None if fitted.selection is None else fitted.selection.around(),
        "fit_cpu_s": clock[1] - clock[0],
        "evaluate_cpu_s": clock[2] - clock[1],
    }


def _sample(train: Interactions, budget: float, seed: int) -> Interactions:
    """The rows of the first users of a random order that reach the budget; all other users without rows."""
    draw = hashing.combine(hashing.stream("random_users/keys", seed), train.users.astype(np.uint64))
    order = np.argsort(draw, kind="stable")
    chosen = np.zeros(len(train), dtype=bool)
    chosen[order[: 1 + int(np.searchsorted(np.cumsum(train.counts[order]), budget * train.n_rows))]] = True
    return _rows(train, np.repeat(chosen, train.counts))


def _rows(of: Interactions, keep: np.ndarray) -> Interactions:
    """Some rows of all users; ``keep`` is bool [rows]."""
    users = np.repeat(np.arange(len(of)), of.counts)[keep]
    offsets = ragged.offsets(np.bincount(users, minlength=len(of)))
    return Interactions(of.users, offsets, of.items[keep], of.n_items)


def _split(log: Log, logs: Path, work: Path) -> Split:
    dataset = _source(log.source, logs, work)
    found = {name: dataset.interactions(name) for name in ("train", "validation", "test")}
    if log.cut is not None:
        users, items = log.cut(found["train"].counts, found["train"].item_counts())
        number = np.cumsum(items) - 1
        for name, of in found.items():
            some = _rows(of, items[of.items]).take(np.flatnonzero(users), timestamps=False)
            found[name] = Interactions(some.users, some.offsets, number[some.items].astype(np.int32), int(items.sum()))
    train, validation = found["train"], found["validation"]
    counts = train.counts + validation.counts
    owner = np.concatenate([np.repeat(np.arange(len(of)), of.counts) for of in (train, validation)])
    items = np.concatenate([train.items, validation.items])[np.argsort(owner, kind="stable")]
    return {**found, "histories": Interactions(train.users, ragged.offsets(counts), items, train.n_items)}


def _source(name: str, logs: Path, work: Path) -> Dataset:
    """The prepared dataset of a log; only this starts Ray."""
    file, settings = FILES[name]
    uri = str(work / "sources" / file)
    if not storage.exists(storage.join(storage.normalise(uri), MANIFEST)):
        prepare(input=[str(logs / file)], output=uri, split="20_percent_hist", shards=1, **settings)
    return Dataset.open(uri)


if __name__ == "__main__":
    main()
