"""One worker's part of `distill`: the job interface of distillers on Ray Train; the first worker writes the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.distiller import Distiller
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.torch_model import TorchRecommender
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.training.torch_fit import run_trainer
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec


class SingleWorker(TorchCommunicator):
    """Communicator of a worker that trains on its own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.world_size = device, 0, 1


class GroupJob:
    """A :class:`~distill_at_scale.distillation.distiller.Job` on a worker of a group, with checkpoints on storage."""

    def __init__(
        self,
        group: WorkerGroupSpec,
        communicator: TorchCommunicator,
        dataset: Dataset,
        on_progress: progress.OnProgress,
        shared: str | None = None,
    ) -> None:
        self.dataset, self.communicator, self.on_progress, self.shared = dataset, communicator, on_progress, shared
        self.device, self.work, self.checkpoint_every = communicator.device, group.work, group.checkpoint_every or 1
        self._group = group
        self._checkpoints: dict[str, Checkpoints] = {}

    def newest(self, folder: str = "") -> bytes | None:
        """Returns the newest checkpoint, the same on all workers; all must call this."""
        checkpoints = self._in(folder)
        # The first worker looks it up and broadcasts, so that all workers use the same checkpoint.
        newest = torch.tensor([checkpoints.newest() if self.communicator.rank == 0 else 0], device=self.device)
        self.communicator.all_reduce(newest)
        return checkpoints.read(int(newest.item())) if newest.item() else None

    def keep(self, step: int, content: bytes, folder: str = "") -> None:
        """Writes a checkpoint in the background; does nothing on workers other than the first."""
        if self.communicator.rank == 0:
            self._in(folder).write(step, content)

    def report(self, figures: Mapping[str, float]) -> None:
        """Reports figures to Ray Train; all workers must call this."""
        self.communicator.report(figures)

    def wait(self) -> None:
        """Waits until all checkpoints are written."""
        for checkpoints in self._checkpoints.values():
            checkpoints.wait()

    def train(
        self,
        model: TorchRecommender,
        folder: str,
        on_progress: progress.OnProgress,
        after_epoch: Callable[[Trainer], None] | None = None,
    ) -> Trainer:
        """Trains a model on the whole log on this worker only, with separate checkpoints."""
        own = replace(self._group, work=storage.join(self.work, folder), checkpoint_every=None)
        alone, source = SingleWorker(self.communicator.device), ShardSource(self.dataset)
        return run_trainer(own, alone, model, self.dataset, source, on_progress, after_epoch)

    def _in(self, folder: str) -> Checkpoints:
        if folder not in self._checkpoints:
            place = storage.join(self.work, folder) if folder else self.work
            self._checkpoints[folder] = Checkpoints(place, self._group.keep_checkpoints)
        return self._checkpoints[folder]


def run_distiller(distiller: Distiller, job: GroupJob, method: str, output: str) -> None:
    """Runs one worker's part of a distillation; the first worker writes the result.

    Args:
        distiller: Distiller with its settings.
        job: Environment of this worker.
        method: Name or spec of the distiller, for the manifest.
        output: Folder of the result.
    """
    started, dataset = time.monotonic(), job.dataset
    workers = job.communicator.world_size
    size = distiller.size()
    number = getattr(distiller.config, size)
    what = f"{method} into {size if number is None else f'{number:,} {size}'} of {dataset.n_items:,} items"
    require_memory(what, distiller.memory(dataset, workers), None, distiller.memory_hint)
    made = distiller.run(job)
    if job.communicator.rank == 0:
        spent = {"wall_s": time.monotonic() - started, "peak_mib": run_record.peak_mib()}
        synthetic.write(
            output,
            made,
            dataset,
            method=method,
            config=distiller.config.model_dump(mode="json"),
            cost={"cpu_s": made.cpu_s, **made.costs, **spent},
            made_with=run_record.made_with(),
            earlier=distiller.earlier,
        )
