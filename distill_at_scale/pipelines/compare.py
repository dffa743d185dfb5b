"""compare: the same models, fitted on a dataset and on small ones made of it, side by side on the same test rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import isnan
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel

from distill_at_scale.config import KS, CompareConfig, settle
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.retention import Retention, retention
from distill_at_scale.models import find_model
from distill_at_scale.pipelines import cluster, runs
from distill_at_scale.pipelines.evaluate import evaluate, measure, weights
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.fitting import fit_here
from distill_at_scale.pipelines.stages import run_stage

# What the rows take as they are read and handed over, and how much of a node's memory is given away.
_ROW_BYTES = 100
_SHARE_OF_MEMORY = 0.7
NAME = "comparison.json"


class Trained(BaseModel):
    """One model fitted on one dataset."""

    metrics: dict[str, float]
    standard_errors: dict[str, float | None]
    fit_wall_s: float
    fit_cpu_s: float


class Compared(BaseModel):
    """A small dataset and what it keeps."""

    uri: str
    fingerprint: str
    method: str
    """what made it, as its manifest says"""
    budget: float | None
    """share of the train rows that was asked for"""
    seed: int | None
    share: float
    """of the full dataset's train rows"""
    retention: Retention
    models: dict[str, Trained]


class Comparison(BaseModel):
    """All models on all datasets."""

    uri: str
    """of the folder with all fits and this result"""
    data: dict[str, Any]
    """uri, fingerprint and train rows of the full dataset"""
    metrics: list[str]
    full: dict[str, Trained]
    """model -> how it does when fitted on everything"""
    small: list[Compared]
    wall_s: float


def compare(config: CompareConfig | None = None, /, **settings: Any) -> Comparison:
    """Fits every model on the full and on every small dataset and compares them on the full one's test rows.

    A user's history is that of the full dataset in both cases: what was left out is training data, not what the
    service knows of a user when it is asked. Fits that leave room for others run side by side, one task each; the
    models are not kept, what they measure is, so that a comparison that was interrupted goes on where it was, and
    one with more datasets or models takes up what is known.

    Raises:
        DasError: unknown model, a dataset that is no part of the full one, a metric that is not measured.
    """
    config = settle(CompareConfig, config, settings)
    started = time.time()
    for name in config.models:
        find_model(name)
    full = Dataset.open(config.data)
    small = [Dataset.open(uri) for uri in config.samples]
    for dataset in small:
        if dataset.manifest.item_space != full.manifest.item_space or dataset.n_users != full.n_users:
            raise DasError(
                f"{storage.redact(dataset.uri)} was not made of {storage.redact(full.uri)}: its users or items are "
                "numbered otherwise; sample it from this dataset."
            )
    output = storage.normalise(config.output)
    pairs = [_Pair.of(dataset, full, name, output, config) for dataset in (full, *small) for name in config.models]
    done = {pair.record: pair.read(config.metrics) for pair in pairs}
    record = runs.RunRecord("compare", config.model_dump(mode="json", exclude={"address"}))
    todo = [pair for pair in pairs if done[pair.record] is None]
    if todo:
        with cluster.session(config.address):
            together = [pair for pair in todo if _fits_beside_others(pair)]
            run_stage(record, "fit and evaluate", _train_here, together)
            for pair in todo:
                if pair not in together:
                    _train_apart(pair)
        done |= {pair.record: pair.read(config.metrics) for pair in todo}

    def trained(dataset: Dataset) -> dict[str, Trained]:
        found = {pair.model: done[pair.record] for pair in pairs if pair.fingerprint == dataset.manifest.fingerprint}
        return {name: one for name, one in found.items() if one is not None}

    on_full = trained(full)
    found = [_compared(dataset, full, on_full, trained(dataset), config) for dataset in small]
    result = Comparison(
        uri=output,
        data={
            "uri": storage.redact(full.uri),
            "fingerprint": full.manifest.fingerprint,
            "train_rows": full.manifest.splits["train"],
        },
        metrics=config.metrics,
        full=on_full,
        small=found,
        wall_s=round(time.time() - started, 1),
    )
    content = {**result.model_dump(mode="json"), "config": config.model_dump(mode="json", exclude={"address"})}
    storage.write_json(storage.join(output, NAME), {**content, "versions": runs.versions()})
    return result


@dataclass(frozen=True)
class _Pair:
    """One model to be fitted on one dataset, and where what it does is written down."""

    model: str
    data: str
    fingerprint: str
    full: str
    full_fingerprint: str
    record: str
    split: Literal["validation", "test"]
    seed: int

    @staticmethod
    def of(dataset: Dataset, full: Dataset, model: str, output: str, config: CompareConfig) -> _Pair:
        # The name for the reader; the fingerprint tells datasets of the same name apart.
        label = f"{PurePosixPath(dataset.uri).name}-{dataset.manifest.fingerprint[:8]}"
        record = storage.join(output, "trained", label, f"{model}-{config.split}-{config.seed}.json")
        of_full = full.manifest.fingerprint
        return _Pair(
            model, dataset.uri, dataset.manifest.fingerprint, full.uri, of_full, record, config.split, config.seed
        )

    @property
    def key(self) -> dict[str, str]:
        return {"data": self.fingerprint, "full": self.full_fingerprint}

    def read(self, metrics: list[str]) -> Trained | None:
        """How it did, if it has been done before.

        Raises:
            DasError: when one of ``metrics`` was not measured.
        """
        try:
            before = storage.read_json(self.record)
        except FileNotFoundError:
            return None
        if before["key"] != self.key:
            return None
        trained = Trained.model_validate(before["trained"])
        missing = [metric for metric in metrics if metric not in trained.metrics]
        if missing:
            raise DasError(f"metric '{missing[0]}' is not measured; there are {', '.join(trained.metrics)}.")
        return trained

    def write(self, trained: Trained) -> None:
        storage.write_json(self.record, {"key": self.key, "trained": trained.model_dump(mode="json")})


def _fits_beside_others(pair: _Pair) -> bool:
    """Whether a node has the memory for as many fits like this one as it has CPUs."""
    dataset, model = Dataset.open(pair.data), find_model(pair.model)
    rows = dataset.n_rows
    needed = model.memory_needed(dataset.n_users, dataset.n_items, rows, model.parse_config({})) + _ROW_BYTES * rows
    return all(needed * cpus <= _SHARE_OF_MEMORY * memory for cpus, memory in cluster.nodes())


def _train_here(pair: _Pair) -> dict[str, Any]:
    """Fits and evaluates in one task with one thread: many small fits at once waste nothing on starting workers."""
    cluster.use_threads(1)
    start, cpu = time.monotonic(), time.process_time()
    try:
        model = fit_here(Dataset.open(pair.data), pair.model)
    except DasError as error:
        raise DasError(f"{pair.model} on {storage.redact(pair.data)}: {error}") from None
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu
    full = Dataset.open(pair.full)
    averages = measure(full, range(len(full.shards)), model, weights(pair.full), pair.split, KS, pair.seed).result()
    errors = {name: None if isnan(value) else value for name, value in averages.standard_errors.items()}
    pair.write(
        Trained(
            metrics=averages.metrics,
            standard_errors=errors,
            fit_wall_s=round(wall_s, 3),
            fit_cpu_s=round(cpu_s, 3),
        )
    )
    return {}


def _train_apart(pair: _Pair) -> None:
    """Fits and evaluates with all that the cluster has for one fit; the model itself is not kept."""
    folder = pair.record.removesuffix(".json")
    fitted = fit(data=pair.data, model=pair.model, output=folder, overwrite=True)
    measured = evaluate(data=pair.full, model=folder, split=pair.split, seed=pair.seed)
    pair.write(
        Trained(
            metrics=measured.metrics,
            standard_errors=measured.standard_errors,
            fit_wall_s=fitted.wall_s,
            fit_cpu_s=fitted.cpu_s,
        )
    )
    storage.remove(folder)


def _compared(
    dataset: Dataset,
    full: Dataset,
    on_full: dict[str, Trained],
    trained: dict[str, Trained],
    config: CompareConfig,
) -> Compared:
    made = dataset.manifest.config
    return Compared(
        uri=storage.redact(dataset.uri),
        fingerprint=dataset.manifest.fingerprint,
        method=str(made.get("sampler", "prepare")),
        budget=made.get("budget"),
        seed=made.get("seed"),
        share=dataset.manifest.splits["train"] / full.manifest.splits["train"],
        retention=retention(
            {name: t.metrics for name, t in on_full.items()},
            {name: t.metrics for name, t in trained.items()},
            config.metrics,
        ),
        models=trained,
    )
