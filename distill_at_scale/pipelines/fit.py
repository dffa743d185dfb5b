"""fit: a recommender learns from a dataset's train rows, or from synthetic users or sequences.

Models in closed form are fitted on one node of the cluster; those trained by gradients go through `train`, and those
that make passes over the rows through `fit_streamed`, on as many workers as asked for.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from distill_at_scale.config import FitConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import SettingError
from distill_at_scale.models import MODELS, create_model, find_model
from distill_at_scale.models.saved import MODEL_FILE, read_description
from distill_at_scale.models.selection import Selection
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.runtime import output_folder, progress, resources, run_record, session
from distill_at_scale.pipelines.runtime.own_settings import refuse_useless
from distill_at_scale.pipelines.runtime.tasks import run_alone
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.training.local_fit import fit_synthetic

# What needs torch is imported where it is used: the processes of a fit in closed form are spared it.
_STEPS = 100
_CHECKPOINTS = ("checkpoint_every", "keep_checkpoints")


class FitResult(BaseModel):
    """Result of fit: a fitted model, and how it was made."""

    uri: str
    model: str
    data: str
    """Fingerprint of the dataset (of a synthetic one: of its numbers)."""
    settings: dict[str, Any]
    """Given settings of the model."""
    selection: Selection | None
    """What was chosen on validation: parameter, metric, the grid and its values, the choice."""
    notes: list[str]
    """What to know of that choice, as sentences."""
    tied_in_time: float | None = None
    """Share of the validation rows that a draw chose among the user's rows with the same time."""
    weights: Literal["used", "ignored"] | None = None
    """Whether the model used the weights of the train rows; None if they have none."""
    wall_s: float
    cpu_s: float
    peak_mib: float
    """Peak memory of the process that fitted, the largest of several."""


def with_solver(config: FitConfig) -> FitConfig:
    """Takes --solver over into the settings of the model.

    Raises:
        SettingError: The model has no solvers.
    """
    if config.solver is None:
        return config
    if not find_model(config.model).solvers:
        able = ", ".join(name for name, one in MODELS.items() if one.solvers)
        raise SettingError(f"--solver is of {able}; leave it out for {config.model}.")
    return config.model_copy(update={"set": {**config.set, "solver": config.solver}})


@verb(FitConfig, "data", "model")
def fit(config: FitConfig) -> FitResult:
    """Fits a model and saves it; see :class:`~distill_at_scale.config.FitConfig` for the settings.

    The workers read the rows, never the driver. A single worker gets all CPUs of one node. A killed training resumes
    from its last checkpoint when the same command is run again.

    Raises:
        SettingError: The model or a setting is unknown or wrong.
        NotEnoughMemoryError: The fit needs more memory than there is.
        OutputExistsError: The output exists.
        DasError: The dataset does not exist, or the training failed.
    """
    # Wrong settings are found before a cluster is started for them.
    model = find_model(config.model)
    streamable, config = bool(model.solvers), with_solver(config)
    model.parse_config(config.set)
    if streamable:
        from distill_at_scale.pipelines.training.kernel_fit import begun, check_asked, fit_kernel, plan_fit, say

        check_asked(config)
    trained, by_passes = model.by_gradients, model.by_passes
    if trained or by_passes:
        from distill_at_scale.pipelines.training.torch_fit import train, work_folder
    if by_passes:
        from distill_at_scale.pipelines.training.streamed_fit import fit_streamed
    if worker_range(config.workers)[1] > 1 and not (trained or by_passes or streamable):
        raise SettingError(f"{config.model} is solved in closed form by one worker; leave out --workers.")
    if is_synthetic(config.data):
        return _fit_synthetic(config)
    # The solver pcg of infinite_ae keeps only its newest checkpoint.
    useless = () if trained else ("keep_checkpoints",) if streamable else _CHECKPOINTS
    refuse_useless(config, useless, f"is of models trained by gradients, not of {config.model}")
    dataset = Dataset.open(config.data)
    output = storage.normalise(config.output)
    # If a run was killed after saving the model but before the cleanup, the same command finishes it.
    unfinished = (trained or by_passes) and storage.is_folder(work_folder(config, dataset, output))
    if not (unfinished or (streamable and begun(config, dataset, output))):
        _refuse_model(output, config.overwrite)
    record = run_record.RunRecord("fit", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    record.trained_on = dataset.manifest.of_heldout()
    with session.ensure(config.address):
        if config.gpu:
            resources.require_gpu()
        given = config.set
        solver: Literal["exact", "nystrom", "pcg"] = "exact"
        if streamable and not config.gpu:
            plan = plan_fit(config, dataset)
            say(config.model, plan)
            solver = plan.solver
            given = {**config.set, "solver": solver}
            record.config["plan"] = asdict(plan)
        with progress.stage(f"fit {config.model}", _STEPS) as stage, progress.relay(stage, _STEPS) as on_progress:
            if trained:
                train(record, config, dataset, output, on_progress)
            elif by_passes:
                fit_streamed(record, config, dataset, output, on_progress)
            elif solver != "exact":
                fit_kernel(record, config, dataset, solver, output, on_progress)
            else:
                job = (dataset.uri, config.model, given, output, on_progress)
                warm = functools.partial(warm_up, config.model, given)
                run_alone(record, f"fit {config.model}", _fit, *job, gpu=config.gpu, warm=warm)
    tied = dataset.manifest.tied_share("validation")
    found = _result(record, config, output, dataset.manifest.fingerprint, tied)
    if not dataset.manifest.has_weights:
        return found
    return found.model_copy(update={"weights": "used" if create_model(config.model, given).uses_weights else "ignored"})


def _fit_synthetic(config: FitConfig) -> FitResult:
    """Fits on synthetic users or sequences; they are few, so one worker is enough for every model."""
    from distill_at_scale.distillation.farzi import settings_for
    from distill_at_scale.distillation.synthetic import SyntheticDataset

    synthetic = SyntheticDataset.open(config.data)
    made = synthetic.manifest.sequences
    # Wrong settings are found before a cluster is started for them.
    if made is None:
        find_model(config.model).refuse_rows()
    else:
        settings_for(config.model, config.set, made.settings)
    if worker_range(config.workers)[1] > 1:
        what = "users" if made is None else "sequences"
        raise SettingError(f"Synthetic {what} are few, and fitted by one worker; leave out --workers.")
    refuse_useless(config, _CHECKPOINTS, "is of fits on a log; synthetic data are fitted without checkpoints")
    output = storage.normalise(config.output)
    _refuse_model(output, config.overwrite)
    record = run_record.RunRecord("fit", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    # A private result does not tell which dataset it was made of.
    record.trained_on = tuple(filter(None, [synthetic.manifest.parent.fingerprint]))
    name = f"fit {config.model}"
    with (
        session.ensure(config.address),
        progress.stage(name, _STEPS) as stage,
        progress.relay(stage, _STEPS) as on_progress,
    ):
        job = (synthetic.uri, config.model, config.set, output, on_progress)
        warm = functools.partial(warm_up, config.model, config.set, synthetic=made is None)
        run_alone(record, name, _fit_few, *job, gpu=config.gpu, warm=warm)
    return _result(record, config, output, synthetic.manifest.data.sha256[:32])


def _refuse_model(output: str, overwrite: bool) -> None:
    if storage.exists(storage.join(output, MODEL_FILE)) and not overwrite:
        raise output_folder.holds_already(output, "a model")
    storage.check_writable(storage.join(output, MODEL_FILE))


def _result(
    record: run_record.RunRecord, config: FitConfig, output: str, fingerprint: str, tied: float | None = None
) -> FitResult:
    record.write(output)
    selection = read_description(output).selection
    warning = None if selection is None else selection.warning()
    return FitResult(
        uri=output,
        model=config.model,
        data=fingerprint,
        settings=config.set,
        selection=selection,
        notes=[warning] if warning else [],
        tied_in_time=tied,
        wall_s=round(time.time() - record.started, 3),
        cpu_s=record.stages[-1].cpu_s,
        peak_mib=record.stages[-1].peak_mib,
    )


def _fit_few(data: str, name: str, settings: Mapping[str, Any], output: str, on_progress: progress.OnProgress) -> None:
    fit_synthetic(data, name, settings, on_progress).save(output)


def _fit(data: str, name: str, settings: Mapping[str, Any], output: str, on_progress: progress.OnProgress) -> None:
    create_model(name, settings).fit(Dataset.open(data), progress=on_progress).save(output)
