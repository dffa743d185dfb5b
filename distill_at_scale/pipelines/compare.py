"""compare: fits the same models on a dataset and on small ones made from it; evaluates them on the same test rows."""

from __future__ import annotations

import time
from statistics import mean
from typing import Any

import polars as pl
from pydantic import BaseModel, Field

from distill_at_scale.config import CompareConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import EvaluatedDataRef
from distill_at_scale.data.manifest import Manifest
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.retention import PRIMARY, Retention, retention
from distill_at_scale.evaluation.top_lists import changed_share
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.own_settings import by_owner
from distill_at_scale.pipelines.runtime.results import Result
from distill_at_scale.pipelines.runtime.tasks import run_stage
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps.evaluations import (
    EvaluationTask,
    Trained,
    fits_beside_others,
    lotteries,
    other_metrics,
    selection_metric,
    train_apart,
    train_here,
)

NAME = "comparison.json"


class Compared(BaseModel):
    """A small dataset and the quality that it keeps."""

    uri: str
    fingerprint: str
    method: str
    """Sampler or distiller that made it, from its manifest."""
    budget: float | None
    """Requested share of the train rows."""
    seed: int | None
    share: float
    """Share of the full dataset's train rows."""
    retention: Retention
    kept_by_slice: dict[str, dict[str, float]] = Field(default_factory=dict)
    """model → head, middle, tail → share of ndcg@10 on these items that is kept"""
    changed: dict[str, float] = Field(default_factory=dict)
    """model → share of a user's 10 best items that differ from those of the fit on everything"""
    changed_by_seed: dict[str, float] = Field(default_factory=dict)
    """model → share of a user's 10 best items that differ between samples of other seeds, as a mean; empty without
    any"""
    models: dict[str, Trained]


class Comparison(Result):
    """All models on all datasets."""

    uri: str
    """Address of the folder with all fits and this result."""
    data: EvaluatedDataRef
    """The full dataset."""
    metrics: list[str]
    """The kept share is reported for the first."""
    chosen_by: str
    """Validation metric by which every model chose its settings, on every dataset."""
    notes: list[str]
    """What to know before comparing, as sentences."""
    full: dict[str, Trained]
    """model -> how it does when fitted on everything"""
    small: list[Compared]
    wall_s: float

    def headline(self) -> str:
        """Which datasets, and by what."""
        return f"{len(self.small)} small datasets of {self.data.uri}, kept {self.metrics[0]}"

    def to_frame(self) -> pl.DataFrame:
        """data · method · budget · seed · share · model · kept · tau · one column a metric; a row for each model on
        each dataset, the full one (method "full") first. ``kept`` is of the first metric."""
        first = self.metrics[0]
        full: dict[str, Any] = {"data": self.data.uri, "method": "full", "budget": 1.0, "seed": None, "share": 1.0}
        rows = [full | {"model": model, "kept": 1.0, "tau": 1.0} | of.metrics for model, of in self.full.items()]
        for small in self.small:
            about = {"data": small.uri, "method": small.method, "budget": small.budget, "seed": small.seed}
            for model, of in small.models.items():
                kept = small.retention.kept[model].get(first)
                told = {"share": small.share, "model": model, "kept": kept, "tau": small.retention.tau}
                rows.append(about | told | of.metrics)
        return pl.DataFrame(rows, infer_schema_length=None)


@verb(CompareConfig, "data", "samples")
def compare(config: CompareConfig) -> Comparison:
    """Fits every model on the full and on every small dataset and compares them on the full one's test rows.

    A user's history is that of the full dataset in both cases: sampling removes training data, not what a service knows
    about a user at serving time. Fits that leave resources for others run in parallel, one task each. The models are
    not kept, but their results are: an interrupted comparison resumes, and one with more datasets or models reuses
    them.

    Raises:
        SettingError: A model or setting is unknown, a metric is not measured, or the output lies in a dataset.
        DasError: A dataset was not made from the full one, or is distilled.
    """
    started = time.time()
    settings_by_model = by_owner(config.set, config.models, f"{config.models[0]}.NAME=VALUE")
    metric = selection_metric(config.models, config.metrics[0])
    full = Dataset.open(config.data)
    small = [_open_sample(uri, full) for uri in config.samples]
    for dataset in small:
        if dataset.manifest.item_space != full.manifest.item_space or dataset.n_users != full.n_users:
            raise DasError(
                f"{storage.redact(dataset.uri)} was not made of {storage.redact(full.uri)}: its users or items are "
                "numbered otherwise; sample it from this dataset."
            )
        if not _same_heldout(dataset.manifest, full.manifest):
            raise DasError(
                f"{storage.redact(dataset.uri)} was not made of {storage.redact(full.uri)} but of another split of its "
                "log, so rows that are held out here may be among its train rows; sample it from this dataset."
            )
    output = storage.normalise(config.output)
    for dataset in (full, *small):
        output_folder.check_outside(output, dataset.uri, f"the dataset {storage.redact(dataset.uri)}")
    storage.check_writable(storage.join(output, NAME))
    pairs = [
        EvaluationTask.of(
            dataset.uri,
            dataset.manifest.fingerprint,
            full,
            name,
            output,
            config.split,
            config.seed,
            settings=settings_by_model.get(name),
            metric=metric,
        )
        for dataset in (full, *small)
        for name in config.models
    ]
    done = {pair.record: _known(pair, config.metrics) for pair in pairs}
    record = run_record.RunRecord("compare", config.model_dump(mode="json", exclude={"address"}))
    todo = [pair for pair in pairs if done[pair.record] is None]
    # A deterministic sampler keeps the same rows for every seed, under the same name.
    todo = list({pair.record: pair for pair in todo}.values())
    if todo:
        with session.ensure(config.address):
            together = [pair for pair in todo if fits_beside_others(pair)]
            run_stage(record, "fit and evaluate", train_here, together)
            for pair in todo:
                if pair not in together:
                    train_apart(pair)
        done |= {pair.record: _known(pair, config.metrics) for pair in todo}

    known = [(pair.model, one) for pair in pairs if (one := done[pair.record]) is not None]

    def trained(dataset: Dataset) -> dict[str, Trained]:
        found = {pair.model: done[pair.record] for pair in pairs if pair.fingerprint == dataset.manifest.fingerprint}
        return {name: one for name, one in found.items() if one is not None}

    on_full = trained(full)
    found = [_compared(dataset, full, on_full, trained(dataset), config) for dataset in small]
    found = [one.model_copy(update={"changed_by_seed": _between_seeds(one, found)}) for one in found]
    result = Comparison(
        uri=output,
        data=EvaluatedDataRef.of(full, config.split),
        metrics=config.metrics,
        chosen_by=metric,
        notes=[f"{note}." for note in other_metrics(settings_by_model, metric) + lotteries(known)],
        full=on_full,
        small=found,
        wall_s=round(time.time() - started, 1),
    )
    content = {**result.model_dump(mode="json"), "config": config.model_dump(mode="json", exclude={"address"})}
    storage.write_json(storage.join(output, NAME), {**content, "versions": run_record.versions()})
    return result


def _open_sample(uri: str, full: Dataset) -> Dataset:
    """Opens a small dataset.

    Raises:
        DasError: It is missing or distilled.
    """
    if is_synthetic(place := storage.normalise(uri)):
        data, log = storage.redact(place), storage.redact(full.uri)
        raise DasError(
            f"{data} is distilled, and das compare takes samples only; leave it out, and measure it by das fit --data "
            f"{data} and das evaluate --data {log}, or by a das sweep with its method."
        )
    return Dataset.open(uri)


def _same_heldout(small: Manifest, full: Manifest) -> bool:
    """Whether both hold out the same rows, as far as manifests tell: a sample of a sample names only that one."""
    if set(small.of_heldout()) & set(full.of_heldout()):
        return True
    rules = [(of.split_rule, of.splits.get("validation"), of.splits.get("test")) for of in (small, full)]
    return rules[0] == rules[1]


def _known(pair: EvaluationTask, metrics: list[str]) -> Trained | None:
    """Returns the stored result of an evaluation, if there is one.

    Raises:
        DasError: One of ``metrics`` was not measured.
    """
    trained = pair.read()
    missing = [metric for metric in metrics if trained is not None and metric not in trained.metrics]
    if trained is not None and missing:
        raise DasError(f"metric '{missing[0]}' is not measured; there are {', '.join(trained.metrics)}.")
    return trained


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
        kept_by_slice={name: kept for name, of in trained.items() if (kept := _kept_by_slice(on_full[name], of))},
        changed=_changed(on_full, trained),
        models=trained,
    )


def _kept_by_slice(full: Trained, small: Trained) -> dict[str, float]:
    """Slice → share of the primary metric that is kept, where there is any to keep."""
    return {
        name: (small.slices or {})[name][PRIMARY] / of[PRIMARY]
        for name, of in (full.slices or {}).items()
        if of.get(PRIMARY) and PRIMARY in (small.slices or {}).get(name, {})
    }


def _changed(first: dict[str, Trained], second: dict[str, Trained]) -> dict[str, float]:
    """Model → share of a user's best items that two fits do not share."""
    found = {
        name: changed_share(first[name].lists or {}, of.lists or {}) for name, of in second.items() if name in first
    }
    return {name: share for name, share in found.items() if share is not None}


def _between_seeds(one: Compared, others: list[Compared]) -> dict[str, float]:
    alike = [
        _changed(one.models, other.models)
        for other in others
        if (other.method, other.budget) == (one.method, one.budget) and other.seed != one.seed
    ]
    return {
        name: mean(of[name] for of in alike if name in of) for name in one.models if any(name in of for of in alike)
    }
