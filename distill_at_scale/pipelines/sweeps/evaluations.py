"""Evaluations: one model is fitted on one dataset and evaluated on another; `compare` and `sweep` consist of these.

The result is stored under a digest of everything that determines it. So a resumed run repeats nothing, and methods or
seeds that keep the same rows share one evaluation.
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

from pydantic import BaseModel, Field

from distill_at_scale.config.values import KS
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import DasError, rebuilt
from distill_at_scale.evaluation.bootstrap import Resampled, UserBootstrap
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.evaluation.user_sample import UserSample
from distill_at_scale.models import find_model
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.evaluate import evaluate, measure, weights
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.training.local_fit import fit_here
from distill_at_scale.registry import file_name

RECORDS = "trained"
"""Folder, below an output, of the evaluations' records."""

# Increased when evaluations change. Version 2: all models select by one metric; costs are those of warm processes.
# Version 3: models trained by gradients select on users with a history; als costs less.
_MEASURED = 3
# Factor for the memory of the rows while they are read and copied.
_ROW_BYTES = 100


class Trained(BaseModel):
    """One model fitted on one dataset."""

    metrics: dict[str, float]
    standard_errors: dict[str, float | None]
    resampled: Resampled | None = None
    """Ranking metrics over resampled users, if requested; the resamples are the same for all models."""
    fit_wall_s: float
    fit_cpu_s: float
    slices: dict[str, dict[str, float]] | None = None
    """Figures by the popularity of the held-out items; None in records of earlier releases."""
    lists: dict[int, list[int]] | None = Field(default=None, exclude=True, repr=False)
    """Number of a user -> the 10 best items, for some users who are drawn by their number; in records only."""
    measure_cpu_s: float | None = None
    """CPU-seconds of the evaluation; None in records of earlier releases."""
    around: list[float] | None = None
    """Selected value and its neighbours; None if nothing was selected, or in records of earlier releases."""
    lottery: str | None = None
    """Warning if the selection on validation rows is unreliable, as a sentence."""


@dataclass(frozen=True)
class EvaluationTask:
    """One model to be fitted on one dataset, and the file of its record."""

    model: str
    """Name of the model."""
    data: str
    fingerprint: str
    """Training data: a dataset or a synthetic one."""
    full: str
    full_fingerprint: str
    """Dataset for the evaluation."""
    record: str
    """File of the results."""
    split: Literal["validation", "test"]
    """Split of the evaluation."""
    seed: int
    """Seed of the negatives of auc, and of the resampled users."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model."""
    resample: bool = False
    """Whether to evaluate over resampled users too."""
    users: int = 0
    """About how many users, drawn at random, to evaluate on; 0 for all."""
    model_at: str = ""
    """Folder to save the fitted model to, or ""."""
    grid_from: str = ""
    """Record of the same model on fewer of the rows, around whose selected value this one selects; "" or one that does
    not exist: the model's own grid."""

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
        users: int = 0,
        models_at: str = "",
    ) -> EvaluationTask:
        """Creates an evaluation with its record under ``output``.

        Args:
            model_seed: Seed of initialisation and batches of a model trained by gradients or by passes; other models
                ignore it.
            settings: Settings of the model; they may include its seed.
            metric: Metric of the model's selection on validation rows, unless its settings name one.
            users: As the attribute.
            models_at: Folder for the fitted model, which gets the name of the record; "" if it is not kept.
        """
        settings = dict(settings or {})
        chooses = find_model(model).Config.model_fields.get("metric")
        if chooses is not None and chooses.default != metric:
            settings = {"metric": metric, **settings}
        if model_seed and (find_model(model).by_gradients or find_model(model).by_passes):
            settings.setdefault("seed", model_seed)
        # The name is for readers; the fingerprint distinguishes datasets of the same name.
        label = f"{PurePosixPath(data).name}-{fingerprint[:8]}"
        name = f"{file_name(model)}-{split}-{seed}"
        if settings:
            name += "-" + hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:6]
        if 0 < users < full.n_users:
            name += f"-of-{users}"
        else:
            users = 0
        return EvaluationTask(
            model=model,
            data=data,
            fingerprint=fingerprint,
            full=full.uri,
            full_fingerprint=full.manifest.fingerprint,
            record=storage.join(output, RECORDS, label, f"{name}.json"),
            split=split,
            seed=seed,
            settings=settings,
            resample=resample,
            users=users,
            model_at=storage.join(models_at, name) if models_at else "",
        )

    @property
    def key(self) -> dict[str, Any]:
        return {"data": self.fingerprint, "full": self.full_fingerprint, "measured": _MEASURED}

    def read(self) -> Trained | None:
        """Returns the stored result, if there is one."""
        before = restartable.read_record(self.record)
        if before is None or before["key"] != self.key:
            return None  # of other rows, or of another version of evaluations
        trained = Trained.model_validate(before["trained"])
        return None if self.resample and trained.resampled is None else trained

    def all_settings(self) -> dict[str, Any]:
        """Returns the settings for the fit, with the grid that a smaller fit leaves to try."""
        settings = dict(self.settings)
        smaller = restartable.read_record(self.grid_from) if self.grid_from else None
        around = None if smaller is None else Trained.model_validate(smaller["trained"]).around
        model = find_model(self.model)
        if around is None or "grid" not in model.Config.model_fields or model.grid_in_one:
            return settings  # nothing was selected, or when to stop, or all values come at once
        return {"grid": around, **settings}

    def write(self, trained: Trained) -> None:
        """Stores the result."""
        content = {**trained.model_dump(mode="json"), "lists": trained.lists}
        recorded.write_json(self.record, {"key": self.key, "trained": content})


def selection_metric(models: Collection[str], wanted: str) -> str:
    """Returns one validation metric by which all the models can select their settings.

    Args:
        models: Names of the models; models without a selection accept any metric.
        wanted: Metric whose kept share is reported.

    Returns:
        ``wanted``, or :data:`~distill_at_scale.evaluation.retention.PRIMARY` if a model cannot select by it.
    """
    for model in map(find_model, models):
        if "metric" in model.Config.model_fields:
            try:
                model.parse_config({"metric": wanted})
            except DasError:
                return PRIMARY
    return wanted


def other_metrics(settings: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    """Returns warnings for models or distillers whose settings select by another metric than the rest.

    Args:
        settings: Settings by model or distiller.
        metric: Metric by which all others select.
    """
    return [
        f"{name} chooses its settings by validation {of['metric']}, not by {metric}: what it keeps is not that of its "
        "best setting"
        for name, of in settings.items()
        if of.get("metric", metric) != metric
    ]


def lotteries(trained: Iterable[tuple[str, Trained]]) -> list[str]:
    """Returns a warning for each fit whose selection on validation rows was unreliable, given fits with their
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
    """Returns whether a node has enough memory for one such fit per CPU."""
    model = find_model(pair.model)
    config = model.parse_config(pair.settings)
    if is_synthetic(pair.data):
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        synthetic = SyntheticDataset.open(pair.data)
        users, items = synthetic.n_users, synthetic.n_items
        rows = users * items
    else:
        dataset = Dataset.open(pair.data)
        users, items, rows = dataset.n_users, dataset.n_items, model.rows_held(dataset, config=config)
    needed = model.memory_needed(users, items, rows, config) + _ROW_BYTES * rows
    return resources.has_room_beside_others(needed)


def train_here(pair: EvaluationTask) -> None:
    """Fits and evaluates in one task with one thread, so that many small fits run in parallel without worker groups.

    Raises:
        DasError: As for the fit, with the names of model and dataset.
    """
    resources.use_threads(1)
    settings = pair.all_settings()
    synthetic = is_synthetic(pair.data)
    warm_up(pair.model, pair.settings, synthetic=synthetic)
    if synthetic:
        # Reading it loads torch, which takes longer than many fits.
        import distill_at_scale.distillation.farzi.fitting
        import distill_at_scale.distillation.synthetic  # noqa: F401
    start, cpu = time.monotonic(), time.process_time()
    try:
        model = fit_here(pair.data, pair.model, settings)
    except DasError as error:
        raise rebuilt(type(error).__name__, f"{pair.model} on {storage.redact(pair.data)}: {error}") from None
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu
    if pair.model_at:
        model.save(pair.model_at)
    full = Dataset.open(pair.full)
    bootstrap = UserBootstrap(pair.seed) if pair.resample else None
    sample = UserSample(pair.users / full.n_users, pair.seed) if pair.users else None
    shards, cpu = range(len(full.shards)), time.process_time()
    measured = measure(full, shards, model, weights(pair.full), pair.split, KS, pair.seed, bootstrap, sample)
    averages = measured.result()
    errors = {name: None if isnan(value) else value for name, value in averages.standard_errors.items()}
    pair.write(
        Trained(
            metrics=averages.metrics,
            standard_errors=errors,
            resampled=None if bootstrap is None else bootstrap.rounded_means(),
            fit_wall_s=round(wall_s, 3),
            fit_cpu_s=round(cpu_s, 3),
            slices=None if measured.slices is None else measured.slices.result(),
            lists=None if measured.lists is None else measured.lists.lists,
            measure_cpu_s=round(time.process_time() - cpu, 3),
            around=model.selection.around() if model.selection is not None else None,
            lottery=model.selection.warning() if model.selection is not None else None,
        )
    )


def train_apart(pair: EvaluationTask, gpu: bool = False) -> None:
    """Fits and evaluates with all of the cluster's resources for one fit, with a GPU if ``gpu``."""
    folder = pair.model_at or pair.record.removesuffix(".json")
    fitted = fit(data=pair.data, model=pair.model, set=pair.all_settings(), output=folder, overwrite=True, gpu=gpu)
    measured = evaluate(
        data=pair.full,
        model=folder,
        split=pair.split,
        seed=pair.seed,
        resample=pair.resample,
        users=pair.users or None,
    )
    pair.write(
        Trained(
            metrics=measured.metrics,
            standard_errors=measured.standard_errors,
            resampled=measured.resampled,
            fit_wall_s=fitted.wall_s,
            fit_cpu_s=fitted.cpu_s,
            slices=measured.slices,
            measure_cpu_s=measured.cpu_s,
            around=fitted.selection.around() if fitted.selection is not None else None,
            lottery=next(iter(fitted.notes), None),
        )
    )
    if not pair.model_at:
        storage.remove(folder)
