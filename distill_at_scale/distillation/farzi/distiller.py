"""Farzi: learns latent sequences on which a student, after some training steps, predicts real sequences like one that
was trained on the full data.

Each outer step advances one trajectory of a pool: a window of exact training steps of a student on the synthetic
sequences, the outer loss of the resulting student, and the gradient of that loss with respect to the sequences, back
through the window. Windows along persistent trajectories replace the gradient through a whole training, which explodes
with its length. Two other objectives (:mod:`matching`) take the gradient at the student before the window.

Sources: Sachdeva et al., "Farzi data: autoregressive data distillation" (arXiv 2310.09983); for the windows, Feng et
al., "Embarrassingly simple dataset distillation" (ICLR 2024), RaT-BPTT.

Every random draw is seeded by its position (step, pool, …); :meth:`Farzi.state` returns the complete state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors.torch
import torch

from distill_at_scale.data import hashing
from distill_at_scale.distillation.adjoint import OptimizerState
from distill_at_scale.distillation.cpu_clock import CpuClock
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.farzi.inner_loop import OPTIMIZER, InnerLoop, advance, run_inner_loop, train_student
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.matching import MatchPoint, gradients_loss, states_loss
from distill_at_scale.distillation.farzi.outer_loss import OuterBatch, OuterBatches, outer_loss
from distill_at_scale.distillation.farzi_config import LATER, FarziLoopConfig
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError
from distill_at_scale.models.training.communicator import Communicator

_RATES = 10.0
"""Outer learning rate of the students' log rates, as a multiple of that of the sequences."""


@dataclass
class Trajectory:
    """A student in training: parameters, optimizer state, and the number of earlier trajectories at its position."""

    restarts: int
    parameters: Parameters
    optimizer: OptimizerState | None = None

    @property
    def age(self) -> int:
        """Number of training steps done."""
        return 0 if self.optimizer is None else self.optimizer.step


class Farzi:
    """Learns latent sequences, starting from given ones.

    Attributes:
        latent: Current sequences; :attr:`averaged` is their running mean.
        best: Running mean at the best validation so far.
        step: Number of outer steps done.
        window: Number of student steps that are differentiated through; halved when a trajectory diverges.
        points: (step, validation metric) of each validation; the first one precedes all steps.
    """

    def __init__(
        self,
        config: FarziLoopConfig,
        student: Student,
        start: LatentSequences,
        outer_batches: OuterBatches,
        teachers: Sequence[Teacher],
        validate: Callable[[Parameters], float],
        communicator: Communicator | None = None,
        pretrained: Sequence[Parameters] = (),
    ) -> None:
        """
        Args:
            config: Settings of the loop.
            student: Model that is trained on the sequences.
            start: Initial sequences.
            outer_batches: Batches of the train rows.
            teachers: Full-data models for the outer loss; may be empty.
            validate: Returns the validation metric of a trained student, the same on all workers; larger is better.
            communicator: Connection to the other workers; worker k mod their number processes pool k.
            pretrained: Parameters of students during full-data trainings, from which trajectories may begin.

        Raises:
            DasError: There are more workers than pools, the sequences have another number of items than the student,
                or ``config.pretrained`` is above 0 without pretrained students.
        """
        self._config, self._student, self._teachers = config, student, teachers
        self._outer_batches = outer_batches
        self._validate, self._communicator = validate, communicator or Communicator()
        if self._communicator.world_size > config.parallel:
            raise DasError(
                f"{self._communicator.world_size} workers share parallel={config.parallel} pools; set parallel to at "
                f"least {self._communicator.world_size}."
            )
        if start.n_items != student.n_items:
            raise DasError(
                f"The sequences have {start.n_items} items, the student has {student.n_items}; use the same item space."
            )
        if config.pretrained and not pretrained:
            raise DasError(f"pretrained={config.pretrained} needs students of full-data trainings; pass some.")
        if config.learned_rates:
            start = replace(start, log_rates=start.decoder.new_zeros(config.learned_rates))
        self._pretrained, device = pretrained, start.decoder.device.type
        self._mixed = config.mixed if config.mixed is not None else device == "cuda"
        self.latent = start.with_tensors([tensor.detach().clone().requires_grad_() for tensor in start.tensors])
        self.averaged = self.best = _copied(self.latent)
        self._optimizer = torch.optim.Adam(
            [
                {"params": [tensor], "of": _RATES if tensor is self.latent.log_rates else 1.0}
                for tensor in self.latent.tensors
            ]
        )
        self.step, self.window = 0, config.window
        self._clock = CpuClock()
        self.points: list[tuple[int, float]] = []
        self.loss = math.nan
        self._pools = {
            pool: [self._drawn(pool, place, restarts=0) for place in range(config.pool)]
            for pool in range(self._communicator.rank, config.parallel, self._communicator.world_size)
        }

    @property
    def done(self) -> bool:
        """Whether all steps are done, or the last ``patience`` validations brought no improvement."""
        if not self.points:
            return False
        values = [value for _, value in self.points]
        waited = len(values) - 1 - values.index(max(values))
        return self.step >= self._config.steps or waited >= self._config.patience

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of this worker, including those before a restored checkpoint."""
        return self._clock.seconds

    def run(self, after_step: Callable[[], None] | None = None) -> LatentSequences:
        """Learns from the current state until :attr:`done`; returns :attr:`best`.

        Args:
            after_step: Called after every step, and after the initial validation.

        Raises:
            DasError: Students diverge even in windows of one step; :attr:`best` remains valid.
        """
        while not self.done:
            if self.points:
                self._learn()
            if self.step % self._config.validate_every == 0 or self.step == self._config.steps:
                self._validate_mean()
            if after_step:
                after_step()
        return self.best

    def validation_metric(self, latent: LatentSequences) -> float:
        """Returns the mean validation metric of new students trained on sequences, with the same seeds in every
        call."""
        c, values = self._config, []
        for k in range(c.validation_students):
            seed = hashing.stream("farzi/validation students", c.seed, k)
            inner_loop = InnerLoop(c.batch, c.student_rate, c.shuffled, seed, mixed=self._mixed)
            values.append(self._validate(train_student(self._student, latent, inner_loop, c.horizon, seed)))
        return sum(values) / len(values)

    def state(self) -> bytes:
        """Returns the state for :meth:`restore`, as safetensors; it is the same on all workers and for any number."""
        tensors: dict[str, torch.Tensor] = {}
        for group, latent in (("latent", self.latent), ("averaged", self.averaged), ("best", self.best)):
            tensors |= {f"{group}.{k}": tensor for k, tensor in enumerate(latent.tensors)}
        for index, entries in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items()}
        pools, ages, restarts = self._gathered()
        tensors["pools"] = pools
        place = {
            "step": self.step,
            "window": self.window,
            "points": self.points,
            "ages": ages,
            "lives": restarts,
            "cpu_s": self.cpu_s,
            "config": self._config.model_dump(),
            "kind": self._kind(),
        }
        copied = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        return safetensors.torch.save(copied, {"farzi": json.dumps(place)})

    def restore(self, content: bytes) -> None:
        """Restores a state from :meth:`state`, on any number of workers.

        Raises:
            DasError: The state has another student, item space, shape of sequences or settings; the message names the
                difference.
        """
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        place = json.loads(header["__metadata__"]["farzi"])
        mine = {**LATER, **self._kind(), **self._config.model_dump()}
        theirs = {**LATER, **place["kind"], **place["config"]}
        for key, value in mine.items():
            if theirs.get(key) != json.loads(json.dumps(value)):
                raise DasError(
                    f"The checkpoint has {key}={theirs.get(key)}, this run has {value}; "
                    "use the checkpoint's setting, or start again with another output."
                )
        device = self.latent.decoder.device
        # Copied into torch's own memory alignment, on which the last bits of a product depend.
        tensors = {key: value.to(device).clone() for key, value in safetensors.torch.load(content).items()}
        n = len(self.latent.tensors)
        with torch.no_grad():
            for k, tensor in enumerate(self.latent.tensors):
                tensor.copy_(tensors[f"latent.{k}"])
        self.averaged, self.best = (
            self.latent.with_tensors([tensors[f"{group}.{k}"] for k in range(n)]) for group in ("averaged", "best")
        )
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {
            k: {key.split(".")[2]: value for key, value in tensors.items() if key.startswith(f"optimizer.{k}.")}
            for k in range(n if "optimizer.0.step" in tensors else 0)
        }
        self._optimizer.load_state_dict(optimizer)
        self.step, self.window = place["step"], place["window"]
        self._clock = CpuClock(place["cpu_s"])
        self.points = [(step, value) for step, value in place["points"]]
        for pool, trajectories in self._pools.items():
            for k, trajectory in enumerate(trajectories):
                vectors = tensors["pools"][pool, k]
                age = int(place["ages"][pool][k])
                trajectory.restarts = int(place["lives"][pool][k])
                sizes = [value.numel() for value in trajectory.parameters.values()]
                parts = vectors[0].split(sizes)
                trajectory.parameters = {
                    name: part.view_as(value).clone()
                    for (name, value), part in zip(trajectory.parameters.items(), parts)
                }
                trajectory.optimizer = OptimizerState(age, tuple(vectors[1:].clone())) if age else None

    def _kind(self) -> dict[str, Any]:
        """Returns the properties, beside the settings, that a state and a run must share."""
        parameters = next(iter(self._pools.values()))[0].parameters
        return {
            "student": self._student.model,
            "n_items": self._student.n_items,
            "pretrained students": len(self._pretrained),
            "student's parameters": {name: list(value.shape) for name, value in parameters.items()},
            "sequences": [list(tensor.shape) for tensor in self.latent.tensors],
            "codes": None if self.latent.books is None else self.latent.books.digest(),
        }

    def _gathered(self) -> tuple[torch.Tensor, list[list[int]], list[list[int]]]:
        """Returns all workers' trajectories: vectors [parallel, pool, 1 + slots, P], ages and restarts
        [parallel][pool]."""
        c = self._config
        size = sum(value.numel() for value in next(iter(self._pools.values()))[0].parameters.values())
        vectors = self.latent.decoder.new_zeros(c.parallel, c.pool, 1 + OPTIMIZER.n_slots, size)
        counters = torch.zeros(2, c.parallel, c.pool, dtype=torch.float64, device=vectors.device)
        for pool, trajectories in self._pools.items():
            for k, trajectory in enumerate(trajectories):
                vectors[pool, k, 0] = torch.cat([value.flatten() for value in trajectory.parameters.values()])
                if trajectory.optimizer is not None:
                    vectors[pool, k, 1:] = torch.stack(trajectory.optimizer.slots)
                counters[0, pool, k], counters[1, pool, k] = trajectory.age, trajectory.restarts
        self._communicator.all_reduce(vectors)
        self._communicator.all_reduce(counters)
        ages, restarts = counters.long().tolist()
        return vectors, ages, restarts

    def _learn(self) -> None:
        """Takes one outer step."""
        c = self._config
        place = self.step % c.pool
        total = torch.zeros(
            self.latent.n_numbers + 2, dtype=self.latent.decoder.dtype, device=self.latent.decoder.device
        )
        for pool in self._pools:
            found = self._window(pool, place)
            if found is None:
                total[-1] += 1
                self._pools[pool][place] = self._drawn(pool, place, self._pools[pool][place].restarts + 1)
            else:
                loss, gradients = found
                total[:-2] += torch.cat([gradient.flatten() for gradient in gradients])
                total[-2] += loss
        self._communicator.all_reduce(total)
        n_good = c.parallel - int(total[-1])
        self.step += 1
        if n_good < c.parallel:
            self._shorten()
        if not n_good:
            return
        self.loss = float(total[-2]) / n_good
        mean = total[:-2] / n_good
        mean *= (c.clip_norm / (mean.norm() + 1e-12)).clamp(max=1.0)
        sizes = [tensor.numel() for tensor in self.latent.tensors]
        for tensor, part in zip(self.latent.tensors, mean.split(sizes)):
            tensor.grad = part.view_as(tensor)
        for group in self._optimizer.param_groups:
            group["lr"] = group["of"] * c.rate * (0.525 + 0.475 * math.cos(math.pi * self.step / c.steps))
        self._optimizer.step()
        with torch.no_grad():
            moved = [old.lerp(new, 1 - c.average) for old, new in zip(self.averaged.tensors, self.latent.tensors)]
        self.averaged = self.latent.with_tensors(moved)

    def _window(self, pool: int, place: int) -> tuple[float, list[torch.Tensor]] | None:
        """Advances a trajectory by one window; returns (outer loss, gradients), or None if it diverged."""
        c, trajectory = self._config, self._pools[pool][place]
        limit = self._horizon()
        if trajectory.age >= limit:
            trajectory = self._pools[pool][place] = self._drawn(pool, place, trajectory.restarts + 1)
        at = (pool, place, trajectory.restarts)
        spread = 2 * float(hashing.stream("farzi/rate", c.seed, *at)) * 2.0**-63 - 1
        rate = c.student_rate * c.rate_spread**spread
        own = hashing.stream("farzi/inner_loop", c.seed, *at)
        inner_loop = InnerLoop(c.batch, rate, c.shuffled, own, c.horizon)
        if not trajectory.restarts and not trajectory.age:
            # The initial pool has students of all ages; otherwise late stages would first be seen after a whole
            # horizon.
            before = limit * place // c.pool
            advanced = advance(self._student, self.latent, inner_loop, trajectory.parameters, before)
            trajectory.parameters, trajectory.optimizer = advanced
        # Adam's first step depends on the signs of gradients, most of which are near 0, so rounding would change it.
        inner_loop = replace(inner_loop, mixed=self._mixed and trajectory.age > 0)
        n_steps, start = min(self.window, limit - trajectory.age), (trajectory.parameters, trajectory.optimizer)
        device = self.latent.decoder.device
        batch = self._outer_batches.draw(c.lesson_users, c.lesson_places, self.step, pool).to(device)
        optimizer: OptimizerState | None
        if c.objective == "unrolled":
            trained, optimizer = run_inner_loop(self._student, self.latent, inner_loop, *start, n_steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=self._mixed):
                loss = outer_loss(self._student, trained, batch, self._teachers, c.teacher_share, c.alignment)
            real_loss = float(loss.detach())
        else:
            loss, real_loss = self._matching_loss(trajectory, inner_loop, batch)
            trained, optimizer = advance(self._student, self.latent, inner_loop, start[0], n_steps, start[1])
        gradients = list(torch.autograd.grad(loss, self.latent.tensors))
        finite = all(bool(tensor.isfinite().all()) for tensor in (*gradients, *trained.values()))
        # A student whose loss is twice that of uniform predictions has diverged.
        if not finite or not real_loss < 2 * math.log(self._student.n_items):
            return None
        trajectory.parameters = {name: value.detach().clone() for name, value in trained.items()}
        trajectory.optimizer = optimizer
        return float(loss.detach()), gradients

    def _matching_loss(
        self, trajectory: Trajectory, inner_loop: InnerLoop, batch: OuterBatch
    ) -> tuple[torch.Tensor, float]:
        """Returns the loss of the sequences of a trajectory's next step, in float32, and the student's loss on real
        ones."""
        c, age = self._config, trajectory.age
        rows = inner_loop.rows(len(self.latent), age)
        student, parameters = self._student, trajectory.parameters
        at = MatchPoint(student, parameters, self.latent, rows, batch, self._teachers, c.teacher_share)
        if c.objective == "gradients":
            return gradients_loss(at, inner_loop.seed, age)
        with torch.no_grad():
            real_loss = float(outer_loss(student, parameters, batch, [], 0.0))
        return states_loss(at, c.least_context), real_loss

    def _shorten(self) -> None:
        if self.window == 1:
            raise DasError(
                f"The student's training diverges at step {self.step} even in windows of one step; set a smaller "
                "student_rate. The sequences of the best validation are kept."
            )
        self.window = max(1, self.window // 2)

    def _validate_mean(self) -> None:
        """Validates the running mean, with the same result on every worker."""
        self.points.append((self.step, self.validation_metric(self.averaged)))
        if self.points[-1][1] == max(value for _, value in self.points):
            self.best = _copied(self.averaged)

    def _horizon(self) -> int:
        """Returns the current number of steps after which a trajectory restarts."""
        c = self._config
        if c.first_horizon is None or c.first_horizon >= c.horizon:
            return c.horizon
        return c.first_horizon + round((c.horizon - c.first_horizon) * min(1.0, 2 * self.step / c.steps))

    def _drawn(self, pool: int, place: int, restarts: int) -> Trajectory:
        seed, at = self._config.seed, (pool, place, restarts)
        drawn = self._student.draw(hashing.stream("farzi/students", seed, *at))
        parameters = drawn
        rng = np.random.default_rng(hashing.stream("farzi/pretrained", seed, *at))
        if rng.random() < self._config.pretrained:
            parameters = self._pretrained[int(rng.integers(len(self._pretrained)))]
        # Always in the same order, since a checkpoint holds the parameters of a trajectory as one vector.
        return Trajectory(restarts, {name: parameters[name].to(self.latent.decoder) for name in drawn})


def _copied(latent: LatentSequences) -> LatentSequences:
    return latent.with_tensors([tensor.detach().clone() for tensor in latent.tensors])
