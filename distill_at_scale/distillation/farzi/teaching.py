"""Workers of Farzi: teachers trained on the whole log, one worker each, and the start that is made of them."""

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
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.farzi.outer_loss import OuterBatches
from distill_at_scale.distillation.farzi.start import start_by, starters
from distill_at_scale.distillation.farzi.teachers import is_on_the_way, teacher_model
from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.models.training.trainer import Trainer

TEACHERS_SHARE = 0.25
"""Share of the progress that training the teachers stands for."""
_POLL_S = 0.5


def train_teachers(job: Job, config: FarziConfig) -> tuple[list[Teacher], list[Parameters], float]:
    """All teachers, their earlier states if those are asked for, and the CPU-seconds of their training over all
    workers (since the last kill, if there was one)."""
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

        def on_the_way(trainer: Trainer, k: int = k) -> None:
            if config.pretrained and is_on_the_way(trainer.epoch):
                sealed.write(_on_the_way(files[k], trainer.epoch), safetensors.torch.save(_learned(trainer)))

        folder = f"teacher-{k}"
        for again in (False, True):
            if _is_taught(files[k], config):
                break
            if again:
                # Its last checkpoint lies behind what it was on its way.
                storage.remove(storage.join(job.work, folder))
            cpu = time.process_time()
            model = teacher_model(config.student, {**settings, "seed": seeds[k]})
            trainer = job.train(model, folder, shown, on_the_way)
            more = {"cpu_s": torch.tensor(time.process_time() - cpu), "epochs": torch.tensor(trainer.epoch)}
            sealed.write(files[k], safetensors.torch.save({**_learned(trainer), **more}))
    student = create_student(config.student, job.dataset.n_items, settings)
    teachers, pretrained, cpu_s = [], [], 0.0
    for file in files:
        found = _await_parameters(file)
        cpu_s += float(found.pop("cpu_s"))
        epochs = int(found.pop("epochs"))
        teachers.append(Teacher(student, {name: value.to(job.device) for name, value in found.items()}))
        pretrained += [read_parameters(at) for at in _all_on_the_way(file, epochs, config)]
    return teachers, pretrained, cpu_s


def started(
    job: Job,
    config: FarziConfig,
    student: Student,
    rows: Interactions,
    teachers: list[Teacher],
    pretrained: list[Parameters],
    users: RealUsers,
) -> Farzi:
    """Farzi's loop before its first step, the same on every worker."""

    def validate(parameters: Parameters) -> float:
        return users.judge(lambda some: student.item_scores(parameters, some), config.metric, "farzi")

    start = start_by(config, _starters(job, config, teachers, rows, validate), rows)
    # Machines of several kinds differ in the last bits: all begin with what the first one has.
    for tensor in start.tensors:
        if job.communicator.rank:
            tensor.zero_()
        job.communicator.all_reduce(tensor)
    lessons = OuterBatches(rows, student.length, config.least_context, config.seed)
    return Farzi(config, student, start, lessons, teachers, validate, job.communicator, pretrained)


def _starters(
    job: Job,
    config: FarziConfig,
    teachers: list[Teacher],
    rows: Interactions,
    validate: Callable[[Parameters], float],
) -> list[Teacher]:
    """Returns the users that the sequences are initialised from; their consensus is stored, so a resumed run reuses
    it."""
    file, first = storage.join(job.work, "consensus.safetensors"), job.communicator.rank == 0
    sound = first and sealed.is_sound(file, "consensus")
    there = torch.tensor([sound], dtype=torch.int64, device=job.device)
    job.communicator.all_reduce(there)
    if there.item():
        found = read_parameters(file)
        return [Teacher(teachers[0].student, {name: value.to(job.device) for name, value in found.items()})]
    starters_ = starters(config, teachers, rows, validate)
    if config.consensus and first:
        learned = {name: value.cpu().contiguous() for name, value in starters_[0].parameters.items()}
        sealed.write(file, safetensors.torch.save(learned))
    return starters_


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
    """Returns the addresses of all stored states of a teacher with this many epochs."""
    return [_on_the_way(file, epoch) for epoch in range(1, epochs + 1) if config.pretrained and is_on_the_way(epoch)]


def _is_taught(file: str, config: FarziConfig) -> bool:
    """Whether a teacher and all that it was on its way are there, undamaged."""
    if not sealed.is_sound(file, "teacher"):
        return False
    on_the_way = _all_on_the_way(file, int(read_parameters(file)["epochs"]), config)
    return all(sealed.is_sound(at, "teacher") for at in on_the_way)


def _key(dataset: Dataset, config: FarziConfig, settings: dict[str, Any], seed: int) -> str:
    """Returns the digest of everything a teacher depends on; it names the file that several runs share."""
    content = [dataset.manifest.fingerprint, config.student, settings, seed, version("torch")]
    if config.pretrained:
        content.append("on the way")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
