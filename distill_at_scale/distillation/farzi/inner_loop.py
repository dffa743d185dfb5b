"""The inner loop: trains a student on latent sequences, with or without differentiating through the training."""

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
    """Settings of a student's training on latent sequences.

    Attributes:
        batch: Number of sequences per step.
        rate: Learning rate of the student's Adam.
        shuffled: Whether each pass over the sequences has its own random order, from ``seed``; else the order is fixed.
        seed: Seed of the order and of dropout.
        n_steps: Number of steps of a whole training, over which learned rates are distributed; required with them.
        mixed: Whether forward and backward passes use bfloat16.
    """

    batch: int
    rate: float
    shuffled: bool = False
    seed: int = 0
    n_steps: int = 0
    mixed: bool = False

    def rows(self, n_sequences: int, step: int) -> tuple[int, ...]:
        """Returns the sequences of a step; the last batch of a pass may be smaller."""
        per_pass = -(-n_sequences // self.batch)
        turn, place = divmod(step, per_pass)
        order = np.arange(n_sequences)
        if self.shuffled:
            order = np.random.default_rng(hashing.stream("farzi/order", self.seed, turn)).permutation(n_sequences)
        return tuple(order[place * self.batch : (place + 1) * self.batch].tolist())

    def rates(self, latent: LatentSequences, first: int, n_steps: int) -> torch.Tensor:
        """Returns the rates from step ``first`` on, [n_steps]; beyond the end of the training the last one is kept."""
        if latent.log_rates is None:
            return latent.decoder.new_full((n_steps,), self.rate)
        steps = torch.arange(first, first + n_steps, device=latent.decoder.device)
        parts = (steps * len(latent.log_rates) // max(self.n_steps, 1)).clamp(max=len(latent.log_rates) - 1)
        return self.rate * latent.log_rates[parts].exp()


STRETCH = 10
"""Number of steps per call of :func:`run_inner_loop` if nothing is differentiated."""

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
    """Takes ``n_steps`` training steps from ``parameters``, differentiable with respect to latent sequences and rates.

    Returns:
        Parameters and optimizer state after the steps.
    """
    first = 0 if start is None else start.step
    rows_of = [inner_loop.rows(len(latent), first + k) for k in range(n_steps)]
    # A repeated batch is one tensor, so that its gradients are summed before they propagate to D and M.
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
    """Trains a new student, initialised from ``seed``, for ``n_steps`` steps without differentiating; learned rates are
    distributed over these steps."""
    drawn = {name: value.to(latent.decoder) for name, value in student.draw(seed).items()}
    return advance(student, latent, replace(inner_loop, n_steps=n_steps), drawn, n_steps)[0]


def advance(
    student: Student,
    latent: LatentSequences,
    inner_loop: InnerLoop,
    parameters: Parameters,
    n_steps: int,
    optimizer: OptimizerState | None = None,
) -> tuple[Parameters, OptimizerState | None]:
    """Takes the next ``n_steps`` steps from ``parameters`` without differentiating; without ``optimizer``, the first
    ones."""
    fixed = latent.with_tensors([tensor.detach() for tensor in latent.tensors])
    with torch.no_grad():
        # Steps are taken in short stretches, since each holds the tokens of all its (different) batches.
        for start in range(0, n_steps, STRETCH):
            n = min(STRETCH, n_steps - start)
            parameters, optimizer = run_inner_loop(student, fixed, inner_loop, parameters, optimizer, n, Snapshots(1))
    return parameters, optimizer
