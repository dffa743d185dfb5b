"""Schooling: training a student on latent sequences, with or without differentiating through it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from distill_at_scale.data import hashing
from distill_at_scale.distillation.adjoint import Adam, Keep, OptimizerState, Snapshots, unroll
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.students import Parameters, Student


@dataclass(frozen=True)
class InnerLoop:
    """How a student is trained on latent sequences.

    Attributes:
        batch: sequences of a step.
        rate: Learning rate of the student's Adam.
        shuffled: whether each pass over the sequences has an order of its own, drawn from ``seed``; else they are
            taken in turn, always alike.
        seed: Seed of the order and of dropout.
        n_steps: Number of steps of a whole training, over which learned rates are laid out; required with them.
        mixed: whether the student's passes are made in bfloat16.
    """

    batch: int
    rate: float
    shuffled: bool = False
    seed: int = 0
    n_steps: int = 0
    mixed: bool = False

    def rows(self, n_sequences: int, step: int) -> tuple[int, ...]:
        """The sequences of a step; the last batch of a pass may be smaller."""
        per_pass = -(-n_sequences // self.batch)
        turn, place = divmod(step, per_pass)
        order = np.arange(n_sequences)
        if self.shuffled:
            order = np.random.default_rng(hashing.stream("farzi/order", self.seed, turn)).permutation(n_sequences)
        return tuple(order[place * self.batch : (place + 1) * self.batch].tolist())

    def rates(self, latent: LatentSequences, first: int, n_steps: int) -> torch.Tensor:
        """[n_steps], the rates from step ``first`` on; beyond the end of the training they stay as they were there."""
        if latent.log_rates is None:
            return latent.decoder.new_full((n_steps,), self.rate)
        steps = torch.arange(first, first + n_steps, device=latent.decoder.device)
        parts = (steps * len(latent.log_rates) // max(self.n_steps, 1)).clamp(max=len(latent.log_rates) - 1)
        return self.rate * latent.log_rates[parts].exp()


STRETCH = 10
"""Steps of a student that is not differentiated, taken at once."""

OPTIMIZER = Adam(eps_root=1e-12)
"""Optimizer of students."""


def run_inner_loop(
    student: Student,
    latent: LatentSequences,
    inner_loop: InnerLoop,
    parameters: Parameters,
    start: OptimizerState | None,
    n_steps: int,
    keep: Keep | None = None,
) -> tuple[Parameters, OptimizerState]:
    """Takes ``n_steps`` steps from ``parameters`` on, differentiable with respect to the latent sequences and rates."""
    first = 0 if start is None else start.step
    rows_of = [inner_loop.rows(len(latent), first + k) for k in range(n_steps)]
    # A batch that comes again is one tensor, so that its gradients are added up before they go on into D and M.
    data = {rows: latent.tokens(torch.tensor(rows)) for rows in dict.fromkeys(rows_of)}

    def loss(values: Parameters, batches: dict[tuple[int, ...], Any], step: int) -> torch.Tensor:
        with torch.autocast(latent.decoder.device.type, torch.bfloat16, enabled=inner_loop.mixed):
            return student.soft_loss(values, *batches[rows_of[step - first]])

    rates = inner_loop.rates(latent, first, n_steps)
    seed = inner_loop.seed
    return unroll(loss, parameters, data, OPTIMIZER, rates, start=start, seed=seed, keep=keep)


def train_student(
    student: Student, latent: LatentSequences, inner_loop: InnerLoop, n_steps: int, seed: int
) -> Parameters:
    """A new student, drawn from ``seed`` and trained for ``n_steps``, over which learned rates are laid; nothing is
    differentiated."""
    drawn = {name: value.to(latent.decoder) for name, value in student.draw(seed).items()}
    return led_on(student, latent, replace(inner_loop, n_steps=n_steps), drawn, n_steps)[0]


def led_on(
    student: Student, latent: LatentSequences, inner_loop: InnerLoop, parameters: Parameters, n_steps: int
) -> tuple[Parameters, OptimizerState | None]:
    """The first ``n_steps`` steps from ``parameters`` on; nothing is differentiated."""
    fixed = latent.with_tensors([tensor.detach() for tensor in latent.tensors])
    optimizer = None
    with torch.no_grad():
        # A stretch holds the tokens of all of its batches, which in random order are all different ones.
        for start in range(0, n_steps, STRETCH):
            n = min(STRETCH, n_steps - start)
            parameters, optimizer = run_inner_loop(student, fixed, inner_loop, parameters, optimizer, n, Snapshots(1))
    return parameters, optimizer
