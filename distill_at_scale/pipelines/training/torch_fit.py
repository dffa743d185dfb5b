"""Fits of models trained by gradients: data-parallel workers, each on its own shards, with checkpoints.

    every worker: its own shards, streamed ─► Trainer (gradients summed over the workers) ─► rank 0 saves the model

Checkpoints are in `<output>/_work/<run>` until the model is saved. A run whose workers or driver died resumes from the
newest one. Workers that may come and go write one at least every half minute, and when a node is about to go.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from distill_at_scale.config import FitConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import WORK
from distill_at_scale.models import Recommender, create_model
from distill_at_scale.models.training.sources import ShardSource, model_source
from distill_at_scale.models.training.torch_model import TorchRecommender
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.runtime.drain_watch import DrainWatch
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group

# What a run of workers that may come and go loses at most, in seconds.
_LOST_S = 30.0


def work_folder(config: FitConfig, dataset: Dataset, output: str) -> str:
    """Returns the checkpoint folder of a run, named by dataset, model, settings, number of workers and versions."""
    same = {
        "data": dataset.manifest.fingerprint,
        "model": config.model,
        "settings": config.set,
        "workers": config.workers,
        "versions": {name: run_record.versions()[name] for name in ("distill_at_scale", "torch")},
    }
    digest = hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()
    return storage.join(output, WORK, digest[:16])


def fit_group(config: FitConfig, dataset: Dataset, output: str) -> WorkerGroupSpec:
    """Returns the worker group that a fit's settings ask for."""
    least, most = worker_range(config.workers)
    return WorkerGroupSpec(
        workers=most,
        gpu=config.gpu,
        work=work_folder(config, dataset, output),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        least=least,
    )


@dataclass(frozen=True)
class WorkerFit:
    """One worker's part of a fit.

    Attributes:
        group: The worker group.
        communicator: Connection to the other workers.
        dataset: Dataset to fit on.
        model: Model with its settings, not fitted yet.
        source: This worker's share of the rows.
    """

    group: WorkerGroupSpec
    communicator: TorchCommunicator
    dataset: Dataset
    model: Recommender
    source: ShardSource


def fit_on_group(
    record: run_record.RunRecord, config: FitConfig, dataset: Dataset, output: str, fit: Callable[[WorkerFit], None]
) -> None:
    """Has every worker of a group fit a model on its share of the rows, and the first one save it at ``output``.

    Args:
        fit: Fits a worker's model on its share; picklable.
    """
    data, name, settings = dataset.uri, config.model, config.set

    def work(group: WorkerGroupSpec, communicator: TorchCommunicator) -> None:
        dataset, model = Dataset.open(data), create_model(name, settings)
        source = model_source(model, dataset, communicator.rank, communicator.world_size)
        fit(WorkerFit(group, communicator, dataset, model, source))
        if communicator.rank == 0:
            model.save(output)

    group = fit_group(config, dataset, output)
    run_group(record, f"fit {config.model}", group, work, functools.partial(warm_up, name, settings))
    storage.remove(storage.join(output, WORK))


def train(
    record: run_record.RunRecord, config: FitConfig, dataset: Dataset, output: str, on_progress: progress.OnProgress
) -> None:
    """Trains a model and saves it at ``output``; resumes from the checkpoints of a killed run.

    Raises:
        DasError: There are too few CPUs or GPUs, the loss became NaN, or workers died too often.
        NotEnoughMemoryError: The fit needs more memory than there is.
    """

    def fit(on: WorkerFit) -> None:
        model, dataset, source = on.model, on.dataset, on.source
        assert isinstance(model, TorchRecommender)
        trainer = run_trainer(on.group, on.communicator, model, dataset, source, on_progress)
        model.adopt(trainer, source.n_users, source.n_items, dataset.manifest.item_space)

    fit_on_group(record, config, dataset, output, fit)


def run_trainer(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    model: TorchRecommender,
    dataset: Dataset,
    source: ShardSource,
    on_progress: progress.OnProgress,
    after_epoch: Callable[[Trainer], None] | None = None,
) -> Trainer:
    """Trains on this worker's share of the data, from the newest checkpoint.

    Args:
        after_epoch: Called after each epoch, before its checkpoint.
    """
    rows = model.rows_held(dataset, communicator.world_size, model.config)
    model.check_memory(dataset.n_users, dataset.n_items, rows, model.config)
    trainer = Trainer(model, source, communicator.device, communicator)
    checkpoints = Checkpoints(group.work, group.keep_checkpoints)
    # The first worker looks it up and broadcasts, so that all workers use the same checkpoint.
    newest = torch.tensor([checkpoints.newest() if communicator.rank == 0 else 0], device=communicator.device)
    communicator.all_reduce(newest)
    if newest.item():
        trainer.restore(checkpoints.view(int(newest.item())))
        communicator.earlier_cpu_s = trainer.earlier_cpu_s
    writes = communicator.rank == 0
    with DrainWatch(group.elastic and writes) as drain:
        written_at = time.monotonic()

        def after_step() -> None:
            nonlocal written_at
            if trainer.step == 0:
                communicator.report(trainer.figures)
                if after_epoch:
                    after_epoch(trainer)
            if not writes:
                return
            due = trainer.taken % group.checkpoint_every == 0 if group.checkpoint_every else trainer.step == 0
            if group.elastic:
                due = due or drain.noticed() or time.monotonic() - written_at > _LOST_S
            if due:
                checkpoints.write_parts(trainer.taken, trainer.state_parts())
                written_at = time.monotonic()

        trainer.run(on_progress, after_step)
    checkpoints.wait()
    return trainer
