"""The workers of `distill` for latent sequences: Farzi.

    teachers, one worker each ─► the start, of rank 0 ─► Farzi (pools dealt over the workers, gradients added up)
    ─► rank 0 writes

Each teacher is trained by one worker on the whole log, with checkpoints of its own, so that what comes out does not
depend on the number of workers. All workers hold the rows that lessons are drawn from; validation users are shared out.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import safetensors.torch
import torch

from distill_at_scale.data import hashing, recorded, sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.preparation import parts
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.farzi import (
    Farzi,
    FarziRecipe,
    LatentSequences,
    Lessons,
    Teacher,
    drawn_rows,
    is_on_the_way,
    pack,
    real_sequences,
    start_by,
    starters,
    teacher_model,
    unpack,
)
from distill_at_scale.distillation.soft_tokens import numbers_needed, places_at_once
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DamagedFileError, DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.pipelines import progress, runs
from distill_at_scale.pipelines.checkpoints import Checkpoints
from distill_at_scale.pipelines.train import Gang, Workers, run_trainer

_TEACHING = 0.25
"""Share of the progress that teaching the teachers stands for."""
_POLL_S = 0.5


def check_farzi(recipe: FarziRecipe, dataset: Dataset, workers: int) -> None:
    """Refuses what cannot be, before any work is done.

    Raises:
        DasError: no times or validation rows, a student that is none, wrong settings of it, more workers than pools.
    """
    place = storage.redact(dataset.uri)
    if not dataset.manifest.has_timestamps:
        raise DasError(f"{place} has no timestamps, so its rows are no sequences; prepare the log with its times.")
    if not dataset.manifest.splits.get("validation"):
        raise DasError(f"{place} has no validation rows, by which farzi chooses; prepare it with another --split.")
    create_student(recipe.student, dataset.n_items, recipe.student_settings())
    create_model(recipe.student, recipe.teacher_settings())
    if workers > recipe.parallel:
        raise SettingError(
            f"--workers {workers} is more than the run's parallel={recipe.parallel} pools; set fewer workers, or begin "
            "anew with --overwrite."
        )


def distill_farzi(
    gang: Gang,
    workers: Workers,
    data: str,
    recipe: FarziRecipe,
    output: str,
    tell: progress.Tell,
    kept: str | None = None,
) -> None:
    """One worker's part; the first one writes the result. ``kept`` is the folder of teachers that other runs share."""
    started = time.monotonic()
    dataset = Dataset.open(data)
    student = create_student(recipe.student, dataset.n_items, recipe.student_settings())
    _require_memory(recipe, student)
    source = ShardSource(dataset, workers.rank, workers.world)
    users = RealUsers(source, workers, recipe.seed, recipe.validation_users, workers.device)
    rows = drawn_rows(dataset, recipe.real_users, recipe.seed)
    # Too long or too many are refused before teachers are trained for them.
    if recipe.start == "teachers":
        real_sequences(rows, recipe.sequences, recipe.places_read, recipe.seed, joined=recipe.is_joined(rows))
    Lessons(rows, student.length, recipe.least_context, recipe.seed)
    teachers, pretrained, teachers_cpu_s = _teachers(gang, workers, dataset, recipe, tell, kept)
    cpu = time.process_time()
    farzi = _farzi(gang, workers, recipe, student, rows, teachers, pretrained, users)
    cpu = time.process_time() - cpu
    best = _train(gang, workers, farzi, recipe, tell)
    stored = farzi.judge(_on(unpack(pack(best)), workers.device))
    (cpu_s,) = users.added(cpu + farzi.cpu_s)
    if workers.rank == 0:
        values = [value for _, value in farzi.points]
        described: dict[str, Any] = {
            "method": "farzi",
            "family": "coupled" if recipe.coupled else "decoupled",
            "config": recipe.model_dump(mode="json"),
            "curve": [{"step": step, "metric": value} for step, value in farzi.points],
            "sequences": {
                "length": recipe.length,
                "width": best.decoder.shape[0],
                "coupled": recipe.coupled,
                "student": recipe.student,
                "settings": recipe.fit_settings(),
                "shuffled": recipe.shuffled,
                "metric": recipe.metric,
                "start": values[0],
                "exact": max(values),
                "stored": stored,
            },
            "cost": {
                "cpu_s": teachers_cpu_s + cpu_s,
                "teachers_cpu_s": teachers_cpu_s,
                "wall_s": time.monotonic() - started,
                "peak_mib": runs.peak_mib(),
            },
            "made_with": runs.made_with(),
            "n_rows": users.n_rows,
        }
        synthetic.write(output, best, dataset, described)


class OneWorker(Workers):
    """A worker that trains by itself."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.world = device, 0, 1


def _teachers(
    gang: Gang, workers: Workers, dataset: Dataset, recipe: FarziRecipe, tell: progress.Tell, kept: str | None
) -> tuple[list[Teacher], list[Parameters], float]:
    """All teachers, what they were on their way where that is asked for, and the CPU-seconds of their training, whoever
    trained them (since the last kill, where there was one)."""
    settings = recipe.teacher_settings()
    seeds = [int(hashing.stream("farzi/teachers", recipe.seed, k)) for k in range(recipe.teachers)]
    files = [storage.join(gang.work, f"teacher-{k}.safetensors") for k in range(recipe.teachers)]
    if kept is not None:
        keys = [_key(dataset, recipe, settings, seed) for seed in seeds]
        files = [storage.join(kept, f"{key}.safetensors") for key in keys]
    mine = range(workers.rank, recipe.teachers, workers.world)
    for turn, k in enumerate(mine):

        def shown(share: float, what: str, turn: int = turn) -> None:
            if workers.rank == 0:
                tell(_TEACHING * (turn + share) / len(mine), what)

        def on_the_way(trainer: Trainer, k: int = k) -> None:
            if recipe.pretrained and is_on_the_way(trainer.epoch):
                sealed.write(_on_the_way(files[k], trainer.epoch), safetensors.torch.save(_learned(trainer)))

        own = replace(gang, work=storage.join(gang.work, f"teacher-{k}"), checkpoint_every=None)
        for anew in (False, True):
            if _is_taught(files[k], recipe):
                break
            if anew:
                # Its last checkpoint lies behind what it was on its way.
                storage.remove(own.work)
            cpu = time.process_time()
            model = teacher_model(recipe.student, {**settings, "seed": seeds[k]})
            trainer = run_trainer(
                own, OneWorker(workers.device), model, dataset, ShardSource(dataset), shown, on_the_way
            )
            more = {"cpu_s": torch.tensor(time.process_time() - cpu), "epochs": torch.tensor(trainer.epoch)}
            sealed.write(files[k], safetensors.torch.save({**_learned(trainer), **more}))
    student = create_student(recipe.student, dataset.n_items, settings)
    teachers, pretrained, cpu_s = [], [], 0.0
    for file in files:
        found = _await_parameters(file)
        cpu_s += float(found.pop("cpu_s"))
        epochs = int(found.pop("epochs"))
        teachers.append(Teacher(student, {name: value.to(workers.device) for name, value in found.items()}))
        pretrained += [_parameters(at) for at in _all_on_the_way(file, epochs, recipe)]
    return teachers, pretrained, cpu_s


def _await_parameters(file: str) -> Parameters:
    """A teacher's, as soon as its worker has them there, undamaged."""
    # Not by torch.distributed: teaching may take longer than it waits.
    while True:
        try:
            return _parameters(file)
        except DamagedFileError:
            time.sleep(_POLL_S)


def _parameters(file: str) -> Parameters:
    """What was learned, sealed in a file.

    Raises:
        DamagedFileError: missing or altered.
    """
    content = sealed.read(file, parts.FIX)
    with recorded.parsing(file, parts.FIX):
        # Copied, so that they lie as torch lays them out: the last bits of a product depend on where numbers lie.
        found: Parameters = {k: v.clone() for k, v in safetensors.torch.load(content.to_pybytes()).items()}
    return found


def _learned(trainer: Trainer) -> Parameters:
    return {name: value.detach().cpu().contiguous() for name, value in trainer.module.named_parameters()}


def _on_the_way(file: str, epoch: int) -> str:
    """Where a teacher's parameters of an epoch are."""
    return file.replace(".safetensors", f"-{epoch}.safetensors")


def _all_on_the_way(file: str, epochs: int, recipe: FarziRecipe) -> list[str]:
    """Where all are that are kept of a teacher with so many epochs."""
    return [_on_the_way(file, epoch) for epoch in range(1, epochs + 1) if recipe.pretrained and is_on_the_way(epoch)]


def _is_taught(file: str, recipe: FarziRecipe) -> bool:
    """Whether a teacher and all that it was on its way are there, undamaged."""
    if not sealed.is_sound(file, "teacher"):
        return False
    on_the_way = _all_on_the_way(file, int(_parameters(file)["epochs"]), recipe)
    return all(sealed.is_sound(at, "teacher") for at in on_the_way)


def _key(dataset: Dataset, recipe: FarziRecipe, settings: dict[str, Any], seed: int) -> str:
    """Of all that a teacher depends on; its file's name where several runs share it."""
    content = [dataset.manifest.fingerprint, recipe.student, settings, seed, runs.versions()["torch"]]
    if recipe.pretrained:
        content.append("on the way")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _farzi(
    gang: Gang,
    workers: Workers,
    recipe: FarziRecipe,
    student: Student,
    rows: Interactions,
    teachers: list[Teacher],
    pretrained: list[Parameters],
    users: RealUsers,
) -> Farzi:
    def validate(parameters: Parameters) -> float:
        return users.judge(lambda some: student.item_scores(parameters, some), recipe.metric, "farzi")

    start = start_by(recipe, _starters(gang, workers, recipe, teachers, rows, validate), rows)
    # Machines of several kinds differ in the last bits: all begin with what the first one has.
    for tensor in start.tensors:
        if workers.rank:
            tensor.zero_()
        workers.add(tensor)
    lessons = Lessons(rows, student.length, recipe.least_context, recipe.seed)
    return Farzi(recipe, student, start, lessons, teachers, validate, workers, pretrained)


def _starters(
    gang: Gang,
    workers: Workers,
    recipe: FarziRecipe,
    teachers: list[Teacher],
    rows: Interactions,
    validate: Callable[[Parameters], float],
) -> list[Teacher]:
    """Whom the sequences start from; their consensus is kept, so that a run that goes on does not need it anew."""
    file = storage.join(gang.work, "consensus.safetensors")
    sound = workers.rank == 0 and sealed.is_sound(file, "consensus")
    there = torch.tensor([sound], dtype=torch.int64, device=workers.device)
    workers.add(there)
    if there.item():
        found = _parameters(file)
        return [Teacher(teachers[0].student, {name: value.to(workers.device) for name, value in found.items()})]
    starters_ = starters(recipe, teachers, rows, validate)
    if recipe.consensus and workers.rank == 0:
        learned = {name: value.cpu().contiguous() for name, value in starters_[0].parameters.items()}
        sealed.write(file, safetensors.torch.save(learned))
    return starters_


def _train(gang: Gang, workers: Workers, farzi: Farzi, recipe: FarziRecipe, tell: progress.Tell) -> LatentSequences:
    """Runs a distiller to its end, from the newest checkpoint on."""
    checkpoints = Checkpoints(storage.join(gang.work, "sequences"), gang.keep_checkpoints)
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if workers.rank == 0 else 0], device=workers.device)
    workers.add(newest)
    if newest.item():
        farzi.restore(checkpoints.read(int(newest.item())))

    def after_step() -> None:
        if farzi.step and farzi.step % (gang.checkpoint_every or 1) == 0:
            # All bring their trajectories together, one writes them.
            content = farzi.state()
            if workers.rank == 0:
                checkpoints.write(farzi.step, content)
        if workers.rank == 0:
            tell(_TEACHING + (1 - _TEACHING) * min(farzi.step / recipe.steps, 0.99), f"step {farzi.step}")

    best = farzi.run(after_step)
    checkpoints.wait()
    return best


def _on(latent: LatentSequences, device: torch.device) -> LatentSequences:
    return latent.with_tensors([tensor.to(device) for tensor in latent.tensors])


def _require_memory(recipe: FarziRecipe, student: Student) -> None:
    """Refuses what would not fit: soft tokens of a window and their gradients, a step's and a lesson's logits."""
    per_pool = recipe.pool * 3 * sum(value.numel() for value in student.draw(0).values())
    in_window = min(recipe.window * recipe.batch, recipe.sequences)
    held, copies = 6 * in_window * recipe.length, 16 * recipe.batch * recipe.length
    narrow = recipe.token_width + int(recipe.student_settings()["dim"])
    numbers = numbers_needed(student.n_items, held, copies, narrow)
    asked = places_at_once(recipe.lesson_places, student.n_items)
    numbers += 10 * asked * student.n_items + (recipe.parallel + 4) * per_pool
    mend = "set fewer lesson_places, fewer or shorter --sequences, or prepare with --min-item to drop rare items"
    require_memory(f"farzi on {student.n_items:,} items", 4 * numbers, None, mend)
