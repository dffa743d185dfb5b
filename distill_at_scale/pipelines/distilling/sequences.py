"""The workers of `distill` for latent sequences: Farzi.

    teachers, one worker each ─► the start, of rank 0 ─► Farzi (pools dealt over the workers, gradients added up)
    ─► rank 0 writes

Each teacher is trained by one worker on the whole log, with checkpoints of its own, so that what comes out does not
depend on the number of workers. All workers hold the rows that lessons are drawn from; validation users are shared out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import safetensors.torch
import torch

from distill_at_scale.data import sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.farzi import (
    Farzi,
    FarziConfig,
    LatentSequences,
    OuterBatches,
    Teacher,
    dequantise,
    drawn_rows,
    quantise,
    real_sequences,
    start_by,
    starters,
)
from distill_at_scale.distillation.soft_tokens import numbers_needed, places_at_once
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.pipelines.distilling.teachers import TEACHERS_SHARE, read_parameters, train_teachers
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec


def check_farzi(config: FarziConfig, dataset: Dataset, workers: int) -> None:
    """Refuses what cannot be, before any work is done.

    Raises:
        DasError: no times or validation rows, a student that is none, wrong settings of it, more workers than pools.
    """
    place = storage.redact(dataset.uri)
    if not dataset.manifest.has_timestamps:
        raise DasError(f"{place} has no timestamps, so its rows are no sequences; prepare the log with its times.")
    if not dataset.manifest.splits.get("validation"):
        raise DasError(f"{place} has no validation rows, by which farzi chooses; prepare it with another --split.")
    create_student(config.student, dataset.n_items, config.student_settings())
    create_model(config.student, config.teacher_settings())
    if workers > config.parallel:
        raise SettingError(
            f"--workers {workers} is more than the run's parallel={config.parallel} pools; set fewer workers, or begin "
            "anew with --overwrite."
        )


def distill_farzi(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    data: str,
    config: FarziConfig,
    output: str,
    on_progress: progress.OnProgress,
    kept: str | None = None,
) -> None:
    """One worker's part; the first one writes the result. ``kept`` is the folder of teachers that other runs share."""
    started = time.monotonic()
    dataset = Dataset.open(data)
    student = create_student(config.student, dataset.n_items, config.student_settings())
    _require_memory(config, student)
    source = ShardSource(dataset, communicator.rank, communicator.world_size)
    users = RealUsers(source, communicator, config.seed, config.validation_users, communicator.device)
    rows = drawn_rows(dataset, config.real_users, config.seed)
    # Too long or too many are refused before teachers are trained for them.
    if config.start == "teachers":
        real_sequences(rows, config.sequences, config.places_read, config.seed, joined=config.is_joined(rows))
    OuterBatches(rows, student.length, config.least_context, config.seed)
    teachers, pretrained, teachers_cpu_s = train_teachers(group, communicator, dataset, config, on_progress, kept)
    cpu = time.process_time()
    farzi = _farzi(group, communicator, config, student, rows, teachers, pretrained, users)
    cpu = time.process_time() - cpu
    best = _train(group, communicator, farzi, config, on_progress)
    stored = farzi.judge(_on(dequantise(quantise(best)), communicator.device))
    (cpu_s,) = users.added(cpu + farzi.cpu_s)
    if communicator.rank == 0:
        values = [value for _, value in farzi.points]
        described: dict[str, Any] = {
            "method": "farzi",
            "family": "coupled" if config.coupled else "decoupled",
            "config": config.model_dump(mode="json"),
            "curve": [{"step": step, "metric": value} for step, value in farzi.points],
            "sequences": {
                "length": config.length,
                "width": best.decoder.shape[0],
                "coupled": config.coupled,
                "student": config.student,
                "settings": config.fit_settings(),
                "shuffled": config.shuffled,
                "metric": config.metric,
                "start": values[0],
                "exact": max(values),
                "stored": stored,
            },
            "cost": {
                "cpu_s": teachers_cpu_s + cpu_s,
                "teachers_cpu_s": teachers_cpu_s,
                "wall_s": time.monotonic() - started,
                "peak_mib": run_record.peak_mib(),
            },
            "made_with": run_record.made_with(),
            "n_rows": users.n_rows,
        }
        synthetic.write(output, best, dataset, described)


def _farzi(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    config: FarziConfig,
    student: Student,
    rows: Interactions,
    teachers: list[Teacher],
    pretrained: list[Parameters],
    users: RealUsers,
) -> Farzi:
    def validate(parameters: Parameters) -> float:
        return users.judge(lambda some: student.item_scores(parameters, some), config.metric, "farzi")

    start = start_by(config, _starters(group, communicator, config, teachers, rows, validate), rows)
    # Machines of several kinds differ in the last bits: all begin with what the first one has.
    for tensor in start.tensors:
        if communicator.rank:
            tensor.zero_()
        communicator.all_reduce(tensor)
    lessons = OuterBatches(rows, student.length, config.least_context, config.seed)
    return Farzi(config, student, start, lessons, teachers, validate, communicator, pretrained)


def _starters(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    config: FarziConfig,
    teachers: list[Teacher],
    rows: Interactions,
    validate: Callable[[Parameters], float],
) -> list[Teacher]:
    """Whom the sequences start from; their consensus is kept, so that a run that goes on does not need it anew."""
    file = storage.join(group.work, "consensus.safetensors")
    sound = communicator.rank == 0 and sealed.is_sound(file, "consensus")
    there = torch.tensor([sound], dtype=torch.int64, device=communicator.device)
    communicator.all_reduce(there)
    if there.item():
        found = read_parameters(file)
        return [Teacher(teachers[0].student, {name: value.to(communicator.device) for name, value in found.items()})]
    starters_ = starters(config, teachers, rows, validate)
    if config.consensus and communicator.rank == 0:
        learned = {name: value.cpu().contiguous() for name, value in starters_[0].parameters.items()}
        sealed.write(file, safetensors.torch.save(learned))
    return starters_


def _train(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    farzi: Farzi,
    config: FarziConfig,
    on_progress: progress.OnProgress,
) -> LatentSequences:
    """Runs a distiller to its end, from the newest checkpoint on."""
    checkpoints = Checkpoints(storage.join(group.work, "sequences"), group.keep_checkpoints)
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if communicator.rank == 0 else 0], device=communicator.device)
    communicator.all_reduce(newest)
    if newest.item():
        farzi.restore(checkpoints.read(int(newest.item())))

    def after_step() -> None:
        if farzi.step and farzi.step % (group.checkpoint_every or 1) == 0:
            # All bring their trajectories together, one writes them.
            content = farzi.state()
            if communicator.rank == 0:
                checkpoints.write(farzi.step, content)
        if communicator.rank == 0:
            on_progress(
                TEACHERS_SHARE + (1 - TEACHERS_SHARE) * min(farzi.step / config.steps, 0.99), f"step {farzi.step}"
            )

    best = farzi.run(after_step)
    checkpoints.wait()
    return best


def _on(latent: LatentSequences, device: torch.device) -> LatentSequences:
    return latent.with_tensors([tensor.to(device) for tensor in latent.tensors])


def _require_memory(config: FarziConfig, student: Student) -> None:
    """Refuses what would not fit: soft tokens of a window and their gradients, a step's and a lesson's logits."""
    per_pool = config.pool * 3 * sum(value.numel() for value in student.draw(0).values())
    in_window = min(config.window * config.batch, config.sequences)
    held, copies = 6 * in_window * config.length, 16 * config.batch * config.length
    narrow = config.token_width + int(config.student_settings()["dim"])
    numbers = numbers_needed(student.n_items, held, copies, narrow)
    asked = places_at_once(config.lesson_places, student.n_items)
    numbers += 10 * asked * student.n_items + (config.parallel + 4) * per_pool
    mend = "set fewer lesson_places, fewer or shorter --sequences, or prepare with --min-item to drop rare items"
    require_memory(f"farzi on {student.n_items:,} items", 4 * numbers, None, mend)
