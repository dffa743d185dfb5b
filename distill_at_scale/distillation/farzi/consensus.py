"""Consensus: one model of the students' kind that predicts what several teachers agree on.

The mean of the teachers' logits needs as many dimensions as they have together; a model's own need its width. Latent
sequences that start from the consensus are thus half as wide at no loss, where cutting the mean down to that width
loses most of what several teachers are better than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from distill_at_scale.distillation.farzi.lessons import Lessons, outer_loss
from distill_at_scale.distillation.farzi.start import Teacher
from distill_at_scale.distillation.students import Parameters

# Of its Adam, which begins where a teacher is; the rate falls to a twentieth along a cosine.
_RATE, _USERS, _PLACES = 3e-3, 64, 1024
_TEACHER_SHARE = 0.9
_VALIDATE_EVERY = 50


def consensus(
    teachers: Sequence[Teacher], lessons: Lessons, steps: int, validate: Callable[[Parameters], float]
) -> Teacher:
    """The teacher that is best on validation, taught by all for ``steps`` steps; the best on the way.

    Args:
        teachers: at least one, of one architecture.
        lessons: from the train rows; the k-th one is learned in step k.
        steps: of Adam.
        validate: the metric of parameters, larger being better; the same on all workers.
    """
    values = [validate(teacher.parameters) for teacher in teachers]
    first = teachers[values.index(max(values))]
    best, best_value = first.parameters, max(values)
    learned = {name: value.detach().clone().requires_grad_() for name, value in first.parameters.items()}
    optimizer = torch.optim.Adam(learned.values(), lr=_RATE)
    device = next(iter(learned.values())).device
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * (0.525 + 0.475 * math.cos(math.pi * step / steps))
        lesson = lessons.draw(_USERS, _PLACES, step).to(device)
        loss = outer_loss(first.student, learned, lesson, teachers, _TEACHER_SHARE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % _VALIDATE_EVERY == 0 or step + 1 == steps:
            found = {name: value.detach().clone() for name, value in learned.items()}
            value = validate(found)
            if value > best_value:
                best, best_value = found, value
    return Teacher(first.student, best)
