"""Fits of models that make passes over the rows: each worker on its own shards, streamed, the sums added up.

The state after each pass lies in `<output>/_work/<run>` until the model is saved. A run whose workers or driver died
goes on from there, exactly.
"""

from __future__ import annotations

import safetensors.torch
import torch

from distill_at_scale.config import FitConfig
from distill_at_scale.data import sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.models.training.streamed import StreamedRecommender
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.training.torch_fit import WorkerFit, fit_on_group
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator


def fit_streamed(
    record: run_record.RunRecord, config: FitConfig, dataset: Dataset, output: str, on_progress: progress.OnProgress
) -> None:
    """Fits a model by passes over the rows and saves it at ``output``; goes on where an earlier run was killed.

    Raises:
        DasError: too few CPUs or GPUs, too little memory, nothing to select on, too many dead workers.
    """

    def fit(on: WorkerFit) -> None:
        model, dataset, communicator = on.model, on.dataset, on.communicator
        assert isinstance(model, StreamedRecommender)
        rows = model.rows_held(dataset, communicator.world_size, model.config)
        model.check_memory(dataset.n_users, dataset.n_items, rows, model.config)
        listener = on_progress if communicator.rank == 0 else None
        model.fit_source(on.source, communicator, communicator.device, listener, _States(on.group.work, communicator))
        model.adopt(on.source, dataset.manifest.item_space)

    fit_on_group(record, config, dataset, output, fit)


class _States:
    """The state after a pass, as one file per name: rank 0 writes, and all go on from what it finds."""

    def __init__(self, folder: str, communicator: TorchCommunicator) -> None:
        self._folder, self._communicator = folder, communicator

    def read(self, name: str) -> tuple[int, torch.Tensor] | None:
        uri, device = self._uri(name), self._communicator.device
        # One worker looks, all go by what it saw.
        sound = self._communicator.rank == 0 and sealed.is_sound(uri, "state", "the fit starts this setting again")
        found = torch.tensor([int(sound)], device=device)
        self._communicator.all_reduce(found)
        if not found.item():
            return None
        stored = safetensors.torch.load(bytes(sealed.read(uri, restartable.FIX)))
        return int(stored["passes"]), stored["state"]

    def write(self, name: str, passes: int, state: torch.Tensor) -> None:
        if self._communicator.rank == 0:
            content = {"passes": torch.tensor(passes), "state": state.cpu()}
            sealed.write(self._uri(name), safetensors.torch.save(content))

    def _uri(self, name: str) -> str:
        return storage.join(self._folder, f"{name}.safetensors")
