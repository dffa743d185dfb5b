"""Compares `das tune` with a search on all rows: quality of the result, and share of the cost.

    python jobs/bench_tune.py --data ../shared/data --work WORK --output jobs/results/tune.json

For each log that is found: a search that fits every candidate on all rows and chooses by validation, then `das tune`
with the same candidates for three seeds of the samples. One process and one thread: fits run one after another, and
all CPU-seconds are of fits, evaluations and samples, without a cluster. Finished
searches in WORK are skipped. The result is written after each search, so a stopped run leaves its results.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from distill_at_scale.config import TuneConfig
from distill_at_scale.config.values import KS
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.bootstrap import UserBootstrap
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models import load_model
from distill_at_scale.pipelines.evaluate import measure, weights
from distill_at_scale.pipelines.prepare import prepare
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.sampling import item_counts, shard_scores
from distill_at_scale.pipelines.sweeps import model_trials, small_datasets
from distill_at_scale.pipelines.sweeps.candidate_runs import cost_of
from distill_at_scale.pipelines.sweeps.candidates import SettingsSearch
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, train_here
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset, SmallDatasetJob
from distill_at_scale.pipelines.sweeps.trial_runs import TrialRuns, task_name

# The package has functions of these names.
sample: Any = importlib.import_module("distill_at_scale.pipelines.sample")
verb: Any = importlib.import_module("distill_at_scale.pipelines.tune")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Log:
    """A log, and what is tuned on it."""

    file: str
    split: str
    models: tuple[str, ...]


LOGS = {
    "ml-1m": Log("ml-1m.parquet", "column", ("svd_ae", "infinite_ae", "ease", "als", "elsa")),
    "ml-100k": Log("ml-100k.inter", "leave_2", ("svd_ae", "infinite_ae", "ease", "als", "elsa")),
    "beauty": Log("amazon-beauty-5core.txt", "leave_2", ("svd_ae", "als", "elsa", "bias", "popularity")),
}


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Runs tasks in this process instead of a cluster, so that CPU-seconds are those of one process on any machine."""

    def run_stage(record: Any, name: str, work: Any, items: Any, shared: Any = (), **_: Any) -> Any:
        return [work(item, *shared) for item in items]

    with contextlib.ExitStack() as patches:
        for module in (sample, shard_scores, item_counts):
            patches.enter_context(mock.patch.object(module, "run_stage", run_stage))
        for module in (sample, model_trials):
            patches.enter_context(mock.patch.object(module.session, "ensure", return_value=contextlib.nullcontext()))
        patches.enter_context(mock.patch.object(verb, "evaluate", judged))
        yield


def judged(data: str, model: str, split: str, seed: int, resample: bool) -> Any:
    """What `das evaluate` measures."""
    dataset, begin, bootstrap = Dataset.open(data), time.process_time(), UserBootstrap(seed)
    found = measure(dataset, range(len(dataset.shards)), load_model(model), weights(data), split, KS, seed, bootstrap)
    return SimpleNamespace(
        metrics=found.result().metrics, resampled=bootstrap.rounded_means(), cpu_s=time.process_time() - begin
    )


class Spread(SettingsSearch):
    """All candidates are spread over the space, so that both searches have the same."""

    @staticmethod
    def _optuna() -> Any:
        return None


class Here(TrialRuns):
    """Samples and fits in this process, one after another."""

    def make(self, jobs: Sequence[SmallDatasetJob]) -> dict[str, list[SmallDataset] | None]:
        for job in jobs:
            if not job.is_done:
                begin = time.process_time()
                made = small_datasets.make(job)
                cost = {"cpu_s": round(time.process_time() - begin, 3)}
                told = [one.model_copy(update=cost).model_dump(mode="json") for one in made]
                recorded.write_json(job.record, {"made": told})
        return {job.key: job.read() for job in jobs}

    def fit(
        self,
        tasks: Sequence[EvaluationTask],
        total: int,
        params: Callable[[EvaluationTask], Mapping[str, Any]],
        on_done: Callable[[EvaluationTask], None],
        on_start: Callable[[EvaluationTask], None] = lambda task: None,
    ) -> None:
        for task in tasks:
            try:
                if task.read() is None:
                    train_here(task)
            except DasError as error:
                self.failed[task_name(task)] = str(error)
            on_done(task)


def searched(data: Dataset, models: Sequence[str], search: int, output: str) -> list[SettingsSearch]:
    return [Spread(model, {}, search, 0, output) for model in models]


def on_everything(data: Dataset, models: Sequence[str], search: int, work: str) -> dict[str, Any]:
    """Fits every candidate on all rows; the best on validation is judged on the test rows."""
    candidates = [one for found in searched(data, models, search, work) for one in found.spread()]
    best, cost = (-1.0, "", ""), dict.fromkeys(models, 0.0)
    for one in candidates:
        task = EvaluationTask.of(
            data.uri,
            data.manifest.fingerprint,
            data,
            one.model,
            work,
            "validation",
            resample=True,
            settings=one.settings,
            models_at=storage.join(work, "models"),
        )
        if task.read() is None:
            train_here(task)
        trained = task.read()
        assert trained is not None
        cost[one.model] += cost_of(trained)
        if trained.metrics[PRIMARY] > best[0]:
            storage.remove(best[2]) if best[2] else None
            best = (trained.metrics[PRIMARY], one.name, task.model_at)
        else:
            storage.remove(task.model_at)
        print(f"{one.name}: {trained.metrics[PRIMARY]:.4f}, {cost_of(trained):.1f} CPU-seconds", flush=True)
    model = load_model(best[2])
    test = measure(data, range(len(data.shards)), model, weights(data.uri), "test", (10,), 0).result()
    return {
        "winner": best[1],
        "validation": best[0],
        "test": test.metrics["ndcg@10"],
        "candidates": len(candidates),
        "cpu_s": round(sum(cost.values()), 1),
        "cpu_s_of_models": {name: round(seconds, 1) for name, seconds in cost.items()},
    }


def tuned(data: Dataset, models: Sequence[str], search: int, seed: int, work: str) -> dict[str, Any]:
    """`das tune` with these candidates."""
    config = TuneConfig(data=data.uri, models=list(models), search=search, seed=seed, output=work)
    run = verb._Tune(config)
    run.searches = searched(data, models, search, run.output)
    run.trials = Here(run.output)
    found = run.run()
    assert found.winner is not None
    return {
        "seed": seed,
        "winner": found.winner.name,
        "validation": found.winner.validation,
        "test": found.winner.test["ndcg@10"],
        "cpu_s": found.spent_cpu_s,
        "told_full_cpu_s": found.full_cpu_s,
        "rungs": [rung.model_dump(mode="json") for rung in found.rungs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the logs; those that lack are skipped")
    parser.add_argument("--work", type=Path, required=True, help="folder for the datasets, fits and searches")
    parser.add_argument("--output", type=Path, required=True, help="file for the result, as JSON")
    parser.add_argument("--search", type=int, default=20, help="settings of each model")
    parser.add_argument("--logs", nargs="*", default=list(LOGS), choices=list(LOGS))
    parser.add_argument("--keep-full", action="store_true", help="keep the search on all rows of an earlier OUTPUT")
    parser.add_argument("--models", nargs="*", help="default: five of each log")
    options = parser.parse_args()
    command = f"python jobs/bench_tune.py --data DATA --work WORK --search {options.search} --output {options.output}"
    command += f" --models {' '.join(options.models)}" if options.models else ""
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {"logs": {}}
    result |= {"command": command, "metric": "ndcg@10"}
    resources.use_threads(1)
    for name in options.logs:
        log, place = LOGS[name], str((options.work / name / "data").resolve())
        if (options.data / log.file).exists() and not storage.exists(storage.join(place, MANIFEST)):
            prepare(input=[str(options.data / log.file)], output=place, split=log.split, shards=4)
    with in_this_process():
        for name in options.logs:
            log = LOGS[name]
            models = options.models or log.models
            if not (options.data / log.file).exists():
                print(f"{name}: not found, skipped", flush=True)
                continue
            place = str((options.work / name / "data").resolve())
            data, told = Dataset.open(place), {"models": list(models), "search": options.search}
            before = result["logs"].get(name, {}) if options.keep_full else {}
            kept = {"full": before["full"]} if "full" in before and told.items() <= before.items() else {}
            seeds: list[dict[str, Any]] = []
            for seed in SEEDS:
                seeds.append(tuned(data, models, options.search, seed, str(options.work / name / f"tune-{seed}")))
                result["logs"][name] = {**told, "tune": seeds, **kept}
                options.output.write_text(json.dumps(result, indent=1) + "\n")
            full = kept.get("full") or on_everything(
                data, models, options.search, str((options.work / name / "full").resolve())
            )
            for one in seeds:
                one["test_of_full"] = one["test"] / full["test"]
                one["cpu_s_of_full"] = one["cpu_s"] / full["cpu_s"]
            result["logs"][name] = {**told, "tune": seeds, "full": full}
            options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
