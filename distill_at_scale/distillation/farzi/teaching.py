"""Farzi on workers: trains the teachers on the whole log, one worker each, and initialises the loop from them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import safetensors.torch
import torch

from distill_at_scale.data import hashing, recorded, sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.distiller import Job
from distill_at_scale.distillation.farzi.distiller import Farzi
from distill_at_scale.distillation.farzi.initial_sequences import initial_sequences, initial_teachers
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.outer_loss import OuterBatches
from distill_at_scale.distillation.farzi.teachers import is_snapshot_epoch, teacher_model
from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.distillation.users import ValidationUsers
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.models.training.trainer import Trainer

TEACHERS_SHARE = 0.25
"""Share of the progress bar for training the teachers."""
_POLL_S = 0.5
_CODES = "items.codes"
"""Name of the items' codes among a composed module's tensors."""


def train_teachers(job: Job, config: FarziConfig) -> tuple[list[Teacher], list[Parameters], float]:
    """Trains the teachers; returns all of them, their snapshots if needed, and the CPU-seconds of their training over
    all workers (since the last restart, if there was one)."""
    settings, communicator = config.teacher_settings(), job.communicator
    seeds = [int(hashing.stream("farzi/teachers", config.seed, k)) for k in range(config.teachers)]
    files = [storage.join(job.work, f"teacher-{k}.safetensors") for k in range(config.teachers)]
    if job.shared is not None:
        keys = [_key(job.dataset, config, settings, seed) for seed in seeds]
        files = [storage.join(job.shared, f"{key}.safetensors") for key in keys]
    mine = range(communicator.rank, config.teachers, communicator.world_size)
    for turn, k in enumerate(mine):

        def shown(share: float, what: str, turn: int = turn) -> None:
            if communicator.rank == 0:
                job.on_progress(TEACHERS_SHARE * (turn + share) / len(mine), what)

        def save_snapshot(trainer: Trainer, k: int = k) -> None:
            if config.pretrained and is_snapshot_epoch(trainer.epoch):
                sealed.write(_snapshot_file(files[k], trainer.epoch), safetensors.torch.save(_learned(trainer)))

        folder = f"teacher-{k}"
        for again in (False, True):
            if _is_trained(files[k], config):
                break
            if again:
                # Snapshots are missing from before its last checkpoint, so the training starts again.
                storage.remove(storage.join(job.work, folder))
            cpu = time.process_time()
            model = teacher_model(config.student, {**settings, "seed": seeds[k]})
            trainer = job.train(model, folder, shown, save_snapshot)
            more = {"cpu_s": torch.tensor(time.process_time() - cpu), "epochs": torch.tensor(trainer.epoch)}
            sealed.write(files[k], safetensors.torch.save({**_learned(trainer), **more}))
    teachers, pretrained, cpu_s = [], [], 0.0
    for file in files:
        found = _await_parameters(file)
        cpu_s += float(found.pop("cpu_s"))
        epochs = int(found.pop("epochs"))
        codes = found.pop(_CODES, None)
        codes = None if codes is None else codes.to(job.device)
        student = create_student(config.student, job.dataset.n_items, settings, codes)
        teachers.append(Teacher(student, {name: value.to(job.device) for name, value in found.items()}))
        pretrained += [_without_codes(read_parameters(at)) for at in _snapshot_files(file, epochs, config)]
    return teachers, pretrained, cpu_s


def create_loop(
    job: Job,
    config: FarziConfig,
    student: Student,
    rows: Interactions,
    teachers: list[Teacher],
    pretrained: list[Parameters],
    users: ValidationUsers,
    start: LatentSequences | None = None,
) -> Farzi:
    """Returns Farzi's loop before its first step, the same on every worker; ``start``: its sequences, if any."""

    def validate(parameters: Parameters) -> float:
        return users.validation_metric(lambda some: student.item_scores(parameters, some), config.metric, "farzi")

    if start is None:
        start = initial_sequences(config, _initial_teachers(job, config, teachers, rows, validate), rows)
    for tensor in start.tensors:
        tensor.copy_(job.communicator.of_first(tensor))
    outer_batches = OuterBatches(rows, student.length, config.least_context, config.seed, config.sampled)
    return Farzi(config, student, start, outer_batches, teachers, validate, job.communicator, pretrained)


def _initial_teachers(
    job: Job,
    config: FarziConfig,
    teachers: list[Teacher],
    rows: Interactions,
    validate: Callable[[Parameters], float],
) -> list[Teacher]:
    """Returns the models from which the sequences are initialised; a consensus is stored, so a resumed run reuses
    it."""
    file, first = storage.join(job.work, "consensus.safetensors"), job.communicator.rank == 0
    sound = first and sealed.is_sound(file, "consensus")
    stored = torch.tensor([sound], dtype=torch.int64, device=job.device)
    job.communicator.all_reduce(stored)
    if stored.item():
        found = read_parameters(file)
        return [Teacher(teachers[0].student, {name: value.to(job.device) for name, value in found.items()})]
    initial = initial_teachers(config, teachers, rows, validate)
    if config.consensus and first:
        learned = {name: value.cpu().contiguous() for name, value in initial[0].parameters.items()}
        sealed.write(file, safetensors.torch.save(learned))
    return initial


def _await_parameters(file: str) -> Parameters:
    """Waits for a teacher's file, written by another worker, and reads it."""
    # Not by torch.distributed: training may take longer than its timeout.
    while True:
        try:
            return read_parameters(file)
        except DamagedFileError:
            time.sleep(_POLL_S)


def read_parameters(file: str) -> Parameters:
    """Reads parameters from a sealed file.

    Raises:
        DamagedFileError: The file is missing or damaged.
    """
    content = sealed.read(file, restartable.FIX)
    with recorded.parsing(file, restartable.FIX):
        # Copied into torch's own memory alignment, on which the last bits of a product depend.
        found: Parameters = {k: v.clone() for k, v in safetensors.torch.load(content.to_pybytes()).items()}
    return found


def _learned(trainer: Trainer) -> Parameters:
    """Returns what a student needs of a module: its parameters but for those of no size, and the items' codes."""
    state = trainer.module.state_dict()
    names = [name for name, value in trainer.module.named_parameters() if value.numel()]
    return {name: state[name].detach().cpu().contiguous() for name in [*names, *({_CODES} & state.keys())]}


def _without_codes(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if name != _CODES}


def _snapshot_file(file: str, epoch: int) -> str:
    """Returns the file of a teacher's snapshot after an epoch."""
    return file.replace(".safetensors", f"-{epoch}.safetensors")


def _snapshot_files(file: str, epochs: int, config: FarziConfig) -> list[str]:
    """Returns the files of all snapshots of a teacher with this many epochs."""
    return [
        _snapshot_file(file, epoch) for epoch in range(1, epochs + 1) if config.pretrained and is_snapshot_epoch(epoch)
    ]


def _is_trained(file: str, config: FarziConfig) -> bool:
    """Returns whether the files of a teacher and of all its snapshots are complete."""
    if not sealed.is_sound(file, "teacher"):
        return False
    save_snapshot = _snapshot_files(file, int(read_parameters(file)["epochs"]), config)
    return all(sealed.is_sound(at, "teacher") for at in save_snapshot)


def _key(dataset: Dataset, config: FarziConfig, settings: dict[str, Any], seed: int) -> str:
    """Returns the digest of everything on which a teacher depends; it names the file that several runs share."""
    content = [dataset.manifest.fingerprint, config.student, settings, seed, version("torch")]
    if config.pretrained:
        content.append("on the way")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
