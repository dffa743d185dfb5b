"""pairs: one model fitted on one dataset and measured on another; what `compare` and `sweep` are made of.

What a pair measured is kept under a name made of what determines it, so that nothing is done twice: not by a run that
goes on where it was, not for two methods or seeds that left the same rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel

from distill_at_scale.config.values import KS
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import DasError, rebuilt
from distill_at_scale.evaluation.bootstrap import UserBootstrap
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models import find_model
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.evaluate import evaluate, measure, weights
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.training.local_fit import fit_here
from distill_at_scale.registry import file_name

RECORDS = "trained"
"""Folder of an output: what each pair measured."""

# Grows when the same pair would measure something else: 2: all models choose by one metric, costs of warm processes.
_MEASURED = 2
# What the rows take as they are read and handed over.
_ROW_BYTES = 100


class Trained(BaseModel):
    """One model fitted on one dataset."""

    metrics: dict[str, float]
    standard_errors: dict[str, float | None]
    resampled: dict[str, list[float]] | None = None
    """Ranking metrics over resampled users, if asked for; the same users whatever was fitted."""
    fit_wall_s: float
    fit_cpu_s: float
    lottery: str | None = None
    """Why what was chosen on validation rows says little, as a sentence."""


@dataclass(frozen=True)
class EvaluationTask:
    """One model to be fitted on one dataset, and where what it does is written down.

    Attributes:
        model: its name.
        settings: Settings of the model.
        data, fingerprint: what it learns from; a dataset or a synthetic one.
        full, full_fingerprint: the dataset whose users are asked.
        record: file for what it measures.
        split: whose rows are predicted.
        seed: Seed of the negatives of auc, and of the resampled users.
        resample: whether to measure over resampled users too.
    """

    model: str
    data: str
    fingerprint: str
    full: str
    full_fingerprint: str
    record: str
    split: Literal["validation", "test"]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    resample: bool = False

    @staticmethod
    def of(
        data: str,
        fingerprint: str,
        full: Dataset,
        model: str,
        output: str,
        split: Literal["validation", "test"],
        seed: int = 0,
        model_seed: int | None = None,
        resample: bool = False,
        settings: Mapping[str, Any] | None = None,
        metric: str = PRIMARY,
    ) -> EvaluationTask:
        """A pair with its record under ``output``.

        Args:
            model_seed: Seed of the initialisation and batches of a model trained by gradients; one in closed form is
                the same for all seeds.
            settings: Settings of the model; one of them may be its seed.
            metric: by which the model chooses on validation rows, where its settings do not say.
        """
        settings = dict(settings or {})
        chooses = find_model(model).Config.model_fields.get("metric")
        if chooses is not None and chooses.default != metric:
            settings = {"metric": metric, **settings}
        if model_seed and find_model(model).by_gradients:
            settings.setdefault("seed", model_seed)
        # The name for the reader; the fingerprint tells datasets of the same name apart.
        label = f"{PurePosixPath(data).name}-{fingerprint[:8]}"
        name = f"{file_name(model)}-{split}-{seed}"
        if settings:
            name += "-" + hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:6]
        record = storage.join(output, RECORDS, label, f"{name}.json")
        whole = full.manifest.fingerprint
        return EvaluationTask(model, data, fingerprint, full.uri, whole, record, split, seed, settings, resample)

    @property
    def key(self) -> dict[str, Any]:
        return {"data": self.fingerprint, "full": self.full_fingerprint, "measured": _MEASURED}

    def read(self) -> Trained | None:
        """How it did, if it has been done before."""
        before = restartable.read_record(self.record)
        if before is None or before["key"] != self.key:
            return None  # of other rows, or of a release that measured otherwise
        trained = Trained.model_validate(before["trained"])
        return None if self.resample and trained.resampled is None else trained

    def write(self, trained: Trained) -> None:
        """Keeps how it did."""
        recorded.write_json(self.record, {"key": self.key, "trained": trained.model_dump(mode="json")})


def selection_metric(models: Collection[str], wanted: str) -> str:
    """The one validation metric by which all of some models choose their settings.

    Args:
        models: their names; those that choose nothing agree to all.
        wanted: the metric whose kept share is reported.

    Returns:
        ``wanted``, or :data:`~distill_at_scale.evaluation.retention.PRIMARY` where one of them cannot choose by it.
    """
    for model in map(find_model, models):
        if "metric" in model.Config.model_fields:
            try:
                model.parse_config({"metric": wanted})
            except DasError:
                return PRIMARY
    return wanted


def other_metrics(settings: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    """What to know of settings by which some models or distillers choose by another metric than the rest, as sentences.

    Args:
        settings: by model or distiller.
        metric: by which all others choose.
    """
    return [
        f"{name} chooses its settings by validation {of['metric']}, not by {metric}: what it keeps is not that of its "
        "best setting"
        for name, of in settings.items()
        if of.get("metric", metric) != metric
    ]


def lotteries(trained: Iterable[tuple[str, Trained]]) -> list[str]:
    """Returns a sentence for each fit whose selection on validation rows was a lottery, given fits with their
    models."""
    of_model: dict[str, list[Trained]] = {}
    for model, one in trained:
        of_model.setdefault(model, []).append(one)
    found = []
    for model, ones in of_model.items():
        said = [one.lottery for one in ones if one.lottery]
        if said:
            found.append(f"{model}, in {len(said)} of {len(ones)} fits: {said[0].rstrip('.')}")
    return found


def fits_beside_others(pair: EvaluationTask) -> bool:
    """Whether a node has the memory for as many fits like this one as it has CPUs."""
    model = find_model(pair.model)
    if is_synthetic(pair.data):
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        synthetic = SyntheticDataset.open(pair.data)
        users, items = synthetic.n_users, synthetic.n_items
        rows = users * items
    else:
        dataset = Dataset.open(pair.data)
        users, items, rows = dataset.n_users, dataset.n_items, dataset.n_rows
    needed = model.memory_needed(users, items, rows, model.parse_config(pair.settings)) + _ROW_BYTES * rows
    return resources.has_room_beside_others(needed)


def train_here(pair: EvaluationTask) -> None:
    """Fits and evaluates in one task with one thread: many small fits at once waste nothing on starting workers.

    Raises:
        DasError: as the fit, with the model's and the dataset's names.
    """
    resources.use_threads(1)
    warm_up(pair.model, pair.settings, synthetic=is_synthetic(pair.data))
    start, cpu = time.monotonic(), time.process_time()
    try:
        model = fit_here(pair.data, pair.model, pair.settings)
    except DasError as error:
        raise rebuilt(type(error).__name__, f"{pair.model} on {storage.redact(pair.data)}: {error}") from None
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu
    full = Dataset.open(pair.full)
    bootstrap = UserBootstrap(pair.seed) if pair.resample else None
    shards = range(len(full.shards))
    measured = measure(full, shards, model, weights(pair.full), pair.split, KS, pair.seed, bootstrap)
    averages = measured.result()
    errors = {name: None if isnan(value) else value for name, value in averages.standard_errors.items()}
    pair.write(
        Trained(
            metrics=averages.metrics,
            standard_errors=errors,
            resampled=None if bootstrap is None else bootstrap.rounded_means(),
            fit_wall_s=round(wall_s, 3),
            fit_cpu_s=round(cpu_s, 3),
            lottery=model.selection.warning() if model.selection is not None else None,
        )
    )


def train_apart(pair: EvaluationTask, gpu: bool = False) -> None:
    """Fits and evaluates with all that the cluster has for one fit, with a GPU where ``gpu`` says so; the model itself
    is not kept."""
    folder = pair.record.removesuffix(".json")
    fitted = fit(data=pair.data, model=pair.model, set=dict(pair.settings), output=folder, overwrite=True, gpu=gpu)
    measured = evaluate(data=pair.full, model=folder, split=pair.split, seed=pair.seed, resample=pair.resample)
    pair.write(
        Trained(
            metrics=measured.metrics,
            standard_errors=measured.standard_errors,
            resampled=measured.resampled,
            fit_wall_s=fitted.wall_s,
            fit_cpu_s=fitted.cpu_s,
            lottery=next(iter(fitted.notes), None),
        )
    )
    storage.remove(folder)
