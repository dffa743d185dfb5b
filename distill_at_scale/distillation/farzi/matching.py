"""Objectives without gradients through training: a student's states, or its gradient, on synthetic and real sequences.

Both are losses of the latent sequences at one student's fixed parameters. Students come from the same trajectories as
with the unrolled objective, so they are compared at all ages, from random parameters on.

Sources: Zhao, Bilen, "Dataset condensation with distribution matching" (WACV 2023), for states; Zhao, Mopuri, Bilen,
"Dataset condensation with gradient matching" (ICLR 2021). Matching gradients was preferred to matching whole
trajectories of teachers (Cazenavette et al., CVPR 2022): that differentiates through many steps, as the unrolled
objective does, and needs a snapshot after each epoch of each teacher, where this needs one double backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distill_at_scale.distillation.adjoint import seeded
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.outer_loss import OuterBatch, outer_loss, target_vectors
from distill_at_scale.distillation.students import Parameters, Student


@dataclass(frozen=True)
class MatchPoint:
    """A student at fixed parameters, and the synthetic and real sequences on which it is compared.

    Attributes:
        student, parameters: The student.
        latent: Synthetic sequences.
        rows: Those of them that are compared, all their positions or some.
        batch: Real sequences, and the positions that are compared.
        teachers, teacher_share: Real targets are the teachers' mean prediction with this weight, and the actual next
            items; without teachers, the share is 0.
    """

    student: Student
    parameters: Parameters
    latent: LatentSequences
    rows: Sequence[int]
    batch: OuterBatch
    teachers: Sequence[Teacher]
    teacher_share: float


def states_loss(at: MatchPoint, least_context: int) -> torch.Tensor:
    """Returns how much the moments of states and targets on synthetic sequences differ from those on real ones.

    With states h and expected target vectors y = Y E at each position, it is the sum of the relative squared errors of
    the means of h and y, of Cov(h, h) and of Cov(h, y). The last one relates targets to states, as matching the mean
    state of each class does for images; E is different for each student, so that no direction of Y is left out.

    Args:
        at: What is compared.
        least_context: As of the batch; states of synthetic sequences are taken after this many tokens or more.
    """
    student, parameters, batch = at.student, at.parameters, at.batch
    inputs, targets = at.latent.tokens(torch.tensor(at.rows))
    states = student.states(parameters, inputs)[:, least_context - 1 :].flatten(0, 1)
    vectors = student.target_vectors(parameters, targets)[:, least_context - 1 :].flatten(0, 1)
    with torch.no_grad():
        real_states = student.states(parameters, batch.items)[batch.rows, batch.columns]
        real_vectors = target_vectors(student, parameters, batch, at.teachers, at.teacher_share)
    return _relative_errors(_moments(states, vectors), _moments(real_states, real_vectors))


def gradients_loss(at: MatchPoint, seed: int, step: int) -> tuple[torch.Tensor, float]:
    """Returns how much a student's gradient on synthetic sequences differs from that of the outer loss, and the latter.

    The difference is the sum over parameter tensors of the relative squared error. Unlike the cosine distance, it
    tells where a student should stop.

    Args:
        at: What is compared; the student reads the synthetic sequences whole, as in training.
        seed, step: Seed and step of the student's training, for its dropout and draws of items.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in at.parameters.items()}
    real_loss = outer_loss(at.student, leaves, at.batch, at.teachers, at.teacher_share)
    real = torch.autograd.grad(real_loss, list(leaves.values()))
    with seeded(seed, step, at.latent.decoder.device):
        loss = at.student.soft_loss(leaves, *at.latent.tokens(torch.tensor(at.rows)))
        found = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    return _relative_errors(found, real), float(real_loss.detach())


def _moments(states: torch.Tensor, vectors: torch.Tensor) -> list[torch.Tensor]:
    """Returns the means of states h [n, dim] and vectors y [n, dim], Cov(h, h) and Cov(h, y)."""
    means = states.mean(dim=0), vectors.mean(dim=0)
    h, y = states - means[0], vectors - means[1]
    return [*means, h.T @ h / len(h), h.T @ y / len(h)]


def _relative_errors(found: Sequence[torch.Tensor], real: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns Σ ‖found − real‖² / ‖real‖² over pairs of tensors; a ``real`` of zeros is compared absolutely."""
    squares = [value.square().sum() for value in real]
    return torch.stack(
        [(a - b).square().sum() / torch.where(s > 0, s, 1.0) for a, b, s in zip(found, real, squares)]
    ).sum()
