"""Teachers of Farzi: models trained on the whole log, one worker each, with checkpoints of their own."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import safetensors.torch
import torch

from distill_at_scale.data import hashing, recorded, sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.farzi import (
    FarziConfig,
    Teacher,
    is_on_the_way,
    teacher_model,
)
from distill_at_scale.distillation.students import Parameters, create_student
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.training.torch_fit import run_trainer
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec

TEACHERS_SHARE = 0.25
"""Share of the progress that training the teachers stands for."""
_POLL_S = 0.5


class SingleWorker(TorchCommunicator):
    """A worker that trains by itself."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.world_size = device, 0, 1


def train_teachers(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    dataset: Dataset,
    config: FarziConfig,
    on_progress: progress.OnProgress,
    kept: str | None,
) -> tuple[list[Teacher], list[Parameters], float]:
    """All teachers, what they were on their way where that is asked for, and the CPU-seconds of their training, whoever
    trained them (since the last kill, where there was one)."""
    settings = config.teacher_settings()
    seeds = [int(hashing.stream("farzi/teachers", config.seed, k)) for k in range(config.teachers)]
    files = [storage.join(group.work, f"teacher-{k}.safetensors") for k in range(config.teachers)]
    if kept is not None:
        keys = [_key(dataset, config, settings, seed) for seed in seeds]
        files = [storage.join(kept, f"{key}.safetensors") for key in keys]
    mine = range(communicator.rank, config.teachers, communicator.world_size)
    for turn, k in enumerate(mine):

        def shown(share: float, what: str, turn: int = turn) -> None:
            if communicator.rank == 0:
                on_progress(TEACHERS_SHARE * (turn + share) / len(mine), what)

        def on_the_way(trainer: Trainer, k: int = k) -> None:
            if config.pretrained and is_on_the_way(trainer.epoch):
                sealed.write(_on_the_way(files[k], trainer.epoch), safetensors.torch.save(_learned(trainer)))

        own = replace(group, work=storage.join(group.work, f"teacher-{k}"), checkpoint_every=None)
        for anew in (False, True):
            if _is_taught(files[k], config):
                break
            if anew:
                # Its last checkpoint lies behind what it was on its way.
                storage.remove(own.work)
            cpu = time.process_time()
            model = teacher_model(config.student, {**settings, "seed": seeds[k]})
            trainer = run_trainer(
                own, SingleWorker(communicator.device), model, dataset, ShardSource(dataset), shown, on_the_way
            )
            more = {"cpu_s": torch.tensor(time.process_time() - cpu), "epochs": torch.tensor(trainer.epoch)}
            sealed.write(files[k], safetensors.torch.save({**_learned(trainer), **more}))
    student = create_student(config.student, dataset.n_items, settings)
    teachers, pretrained, cpu_s = [], [], 0.0
    for file in files:
        found = _await_parameters(file)
        cpu_s += float(found.pop("cpu_s"))
        epochs = int(found.pop("epochs"))
        teachers.append(Teacher(student, {name: value.to(communicator.device) for name, value in found.items()}))
        pretrained += [read_parameters(at) for at in _all_on_the_way(file, epochs, config)]
    return teachers, pretrained, cpu_s


def _await_parameters(file: str) -> Parameters:
    """A teacher's, as soon as its worker has them there, undamaged."""
    # Not by torch.distributed: teaching may take longer than it waits.
    while True:
        try:
            return read_parameters(file)
        except DamagedFileError:
            time.sleep(_POLL_S)


def read_parameters(file: str) -> Parameters:
    """What was learned, sealed in a file.

    Raises:
        DamagedFileError: missing or altered.
    """
    content = sealed.read(file, restartable.FIX)
    with recorded.parsing(file, restartable.FIX):
        # Copied, so that they lie as torch lays them out: the last bits of a product depend on where numbers lie.
        found: Parameters = {k: v.clone() for k, v in safetensors.torch.load(content.to_pybytes()).items()}
    return found


def _learned(trainer: Trainer) -> Parameters:
    return {name: value.detach().cpu().contiguous() for name, value in trainer.module.named_parameters()}


def _on_the_way(file: str, epoch: int) -> str:
    """Where a teacher's parameters of an epoch are."""
    return file.replace(".safetensors", f"-{epoch}.safetensors")


def _all_on_the_way(file: str, epochs: int, config: FarziConfig) -> list[str]:
    """Where all are that are kept of a teacher with so many epochs."""
    return [_on_the_way(file, epoch) for epoch in range(1, epochs + 1) if config.pretrained and is_on_the_way(epoch)]


def _is_taught(file: str, config: FarziConfig) -> bool:
    """Whether a teacher and all that it was on its way are there, undamaged."""
    if not sealed.is_sound(file, "teacher"):
        return False
    on_the_way = _all_on_the_way(file, int(read_parameters(file)["epochs"]), config)
    return all(sealed.is_sound(at, "teacher") for at in on_the_way)


def _key(dataset: Dataset, config: FarziConfig, settings: dict[str, Any], seed: int) -> str:
    """Of all that a teacher depends on; its file's name where several runs share it."""
    content = [dataset.manifest.fingerprint, config.student, settings, seed, run_record.versions()["torch"]]
    if config.pretrained:
        content.append("on the way")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
