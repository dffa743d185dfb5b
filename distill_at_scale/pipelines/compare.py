"""compare: the same models, fitted on a dataset and on small ones made of it, side by side on the same test rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel

from distill_at_scale.config import CompareConfig, settle
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.retention import Retention, retention
from distill_at_scale.models import find_model
from distill_at_scale.pipelines import cluster, runs
from distill_at_scale.pipelines.evaluate import evaluate
from distill_at_scale.pipelines.fit import fit

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
    service knows of a user when it is asked. Every fit is kept; a comparison that was interrupted goes on
    where it was.

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
    with cluster.session(config.address):

        def train(dataset: Dataset) -> dict[str, Trained]:
            folder = storage.join(output, "fits", _label(dataset))
            return {name: _train(dataset, full, name, storage.join(folder, name), config) for name in config.models}

        on_full = train(full)
        found = [_compared(dataset, full, on_full, train, config) for dataset in small]
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


def _label(dataset: Dataset) -> str:
    """A folder name that tells datasets of the same name apart."""
    return f"{PurePosixPath(dataset.uri).name}-{dataset.manifest.fingerprint[:8]}"


def _train(dataset: Dataset, full: Dataset, name: str, folder: str, config: CompareConfig) -> Trained:
    """Fits and evaluates one model, or reads how it did before."""
    key = {"data": full.manifest.fingerprint, "split": config.split, "seed": config.seed}
    record = storage.join(folder, f"trained-{config.split}.json")
    try:
        before = storage.read_json(record)
        if before["key"] == key:
            return _with_metrics(Trained.model_validate(before["trained"]), config.metrics)
    except FileNotFoundError:
        pass
    fitted = fit(data=dataset.uri, model=name, output=folder, overwrite=True)
    measured = evaluate(data=full.uri, model=folder, split=config.split, seed=config.seed)
    trained = Trained(
        metrics=measured.metrics,
        standard_errors=measured.standard_errors,
        fit_wall_s=fitted.wall_s,
        fit_cpu_s=fitted.cpu_s,
    )
    storage.write_json(record, {"key": key, "trained": trained.model_dump(mode="json")})
    return _with_metrics(trained, config.metrics)


def _with_metrics(trained: Trained, metrics: list[str]) -> Trained:
    """``trained``, be it new or taken up, if it has all metrics that are asked for."""
    missing = [metric for metric in metrics if metric not in trained.metrics]
    if missing:
        raise DasError(f"metric '{missing[0]}' is not measured; there are {', '.join(trained.metrics)}.")
    return trained


def _compared(
    dataset: Dataset,
    full: Dataset,
    on_full: dict[str, Trained],
    train: Callable[[Dataset], dict[str, Trained]],
    config: CompareConfig,
) -> Compared:
    trained = train(dataset)
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
