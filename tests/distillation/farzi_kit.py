"""A small world of sequences: the next item follows from the last one, most of the time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi import Farzi, FarziLoopConfig, LatentSequences, OuterBatches, Teacher
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.models.training.communicator import Communicator

N_ITEMS, LENGTH = 12, 5
SETTINGS: dict[str, Any] = {"dim": 8, "blocks": 1, "heads": 1, "length": LENGTH, "dropout": 0.0}
SMALL: dict[str, Any] = {
    "steps": 8,
    "batch": 2,
    "window": 3,
    "horizon": 6,
    "pool": 2,
    "lesson_users": 6,
    "lesson_places": 16,
    "least_context": 2,
    "validate_every": 3,
    "validation_students": 1,
}


def make_rows(seed: int = 0, n_users: int = 30) -> Interactions:
    """Users of 4 to 10 items; item i is followed by i + 1, or by any other one time in ten."""
    rng = np.random.default_rng(seed)
    histories = []
    for _ in range(n_users):
        items = [int(rng.integers(N_ITEMS))]
        while len(items) < int(rng.integers(4, 11)):
            items.append(int(rng.integers(N_ITEMS)) if rng.random() < 0.1 else (items[-1] + 1) % N_ITEMS)
        histories.append(items)
    offsets = np.concatenate(([0], np.cumsum([len(items) for items in histories])))
    return Interactions(np.arange(n_users), offsets, np.concatenate(histories).astype(np.int32), N_ITEMS)


def make_student(model: str = "sasrec", **changed: Any) -> Student:
    return create_student(model, N_ITEMS, {**SETTINGS, **changed})


def make_latent(n_sequences: int = 4, length: int = 4, coupled: bool = False) -> LatentSequences:
    generator = torch.Generator().manual_seed(5)
    inputs, targets = (torch.randn(n_sequences, length, 3, generator=generator) for _ in range(2))
    decoder = torch.randn(3, N_ITEMS, generator=generator)
    return LatentSequences(inputs, decoder, None if coupled else targets, temperature=0.8)


def make_farzi(
    communicator: Communicator | None = None,
    latent: LatentSequences | None = None,
    students: Any = (),
    student: Student | None = None,
    **changed: Any,
) -> Farzi:
    """Eight steps of two sequences at a time, with one untrained teacher; the validation metric is minus a norm."""
    config, student = FarziLoopConfig(**{**SMALL, **changed}), student or make_student()
    teachers = [Teacher(student, student.draw(77))]
    outer_batches = OuterBatches(make_rows(), LENGTH, config.least_context, config.seed, student.sampled)

    def validate(parameters: Parameters) -> float:
        return -float(student.table(parameters).norm())

    return Farzi(config, student, latent or make_latent(), outer_batches, teachers, validate, communicator, students)
