"""DP-SGD of Distill-CF: every step takes a Poisson sample of the users, cuts each user's gradient, and adds noise once.

Source: Abadi and others, "Deep learning with differential privacy" (CCS 2016), algorithm 1. The rows are Z Vᵀ with V
from the noised start, so the noise reaches μ · r coordinates, not μ · n_items. Nothing is validated: a run takes its
number of steps, and returns the mean of the second half of its iterates, which costs no privacy and averages noise out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import safetensors
import safetensors.torch
import torch

from distill_at_scale.distillation.cpu_clock import CpuClock
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.factored_rows import ItemVectors
from distill_at_scale.distillation.privacy.accountant import Budget, budget_of
from distill_at_scale.distillation.privacy.gradients import clipped_sum
from distill_at_scale.distillation.privacy.noise import Noise
from distill_at_scale.distillation.privacy.settings import PrivacyRecord
from distill_at_scale.distillation.privacy.start import PrivateStart, private_start
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import FactoredRows

STEPS, RANK, USERS = 100, 32, 100
"""Defaults of the number of steps, of directions, and of synthetic users."""
_BETAS, _TINY = (0.9, 0.99), 1e-12
# Of the root mean square of the initial coordinates.
_RELATIVE_RATE = 0.05
_LAM, _LAM_RATE, _LEAST_LAM = 0.2, 0.02, 1e-3


class PrivateDistillCF:
    """The loop of one worker. All hold the same rows; each samples its own users, and the first one adds the noise.

    Attributes:
        step: Number of steps done.
        n_steps: Number of steps.

    Args:
        config: Settings, with ``privacy``.
        users: This worker's real users.
        state: State to go on from, of :meth:`state`; None: begins with the start.
        budget: Noise multipliers; None: by the accountant.
        noise: Secret random numbers; None: those of the operating system.

    Raises:
        DasError: The accountant is missing, or the state is of a run with other settings.
    """

    def __init__(
        self,
        config: DistillCFConfig,
        users: RealUsers,
        state: bytes | None = None,
        budget: Budget | None = None,
        noise: Noise | None = None,
    ) -> None:
        private = config.private
        assert private is not None
        self.config, self._users, self._own = config, users, private
        self._noise = noise or Noise()
        self.n_steps = config.steps or STEPS
        self._rate = self._own.sampling_rate(users.n_users)
        self._delta = self._own.delta_of(users.n_users)
        self._clock = CpuClock()
        if state is not None:
            self._restore(state)
            return
        self._budget = budget or self._shared_budget()
        number = config.users or min(USERS, users.n_users)
        self._start = private_start(users, number, config.rank or RANK, self._budget.start, self._noise, config.seed)
        self._z = torch.from_numpy(self._start.rows.z).double()
        self._log_lam = math.log(config.lam or _LAM)
        self._scale = float(self._z.square().mean().sqrt())
        self._m, self._v, self._sum = (torch.zeros(self._z.numel() + 1, dtype=torch.float64) for _ in range(3))
        self.step = 0
        self._vectors = ItemVectors(self._start.rows.v)

    def run(self, progress: Progress | None = None, after_step: Callable[[], None] | None = None) -> None:
        """Takes all steps that are left.

        Raises:
            DasError: The kernel of the rows cannot be factorised.
        """
        while self.step < self.n_steps:
            self._learn()
            if progress and not self._users.communicator.rank:
                progress(min(self.step / self.n_steps, 0.99), f"step {self.step}, with noise")
            if after_step:
                after_step()

    def rows(self) -> tuple[FactoredRows, float]:
        """Returns the mean rows and λ of the second half of the steps."""
        mean = self._sum / max(1, self.n_steps - self.n_steps // 2)
        z = mean[:-1].view_as(self._z).float().numpy()
        return FactoredRows(z, self._vectors.values), math.exp(float(mean[-1]))

    @property
    def start(self) -> PrivateStart:
        """The noised start."""
        return self._start

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of this worker, including those before a restored checkpoint."""
        return self._clock.seconds

    def record(self) -> PrivacyRecord:
        """Returns what the rows guarantee once all steps are done."""
        budget = self._budget
        return PrivacyRecord(
            epsilon=budget.epsilon,
            delta=self._delta,
            noise_multiplier=budget.step,
            start_noise_multiplier=budget.start,
            clip=self._own.clip,
            steps=self.n_steps,
            sampling_rate=self._rate,
            accountant=budget.accountant,
        )

    def _learn(self) -> None:
        users, clip = self._users, self._own.clip
        mine = np.flatnonzero(self._noise.uniform(len(users.numbers)) < self._rate)
        inputs, hidden = users.hide(users.matrix[mine], users.numbers[mine], self.step, self.config.hidden)
        teaching = np.flatnonzero(np.diff(hidden.indptr))
        try:
            total, _ = clipped_sum(self._z, self._log_lam, self._vectors, inputs[teaching], hidden[teaching], clip)
        except FloatingPointError as error:
            raise DasError(
                f"distill_cf: at step {self.step + 1} {error}; set a smaller learning_rate or a larger lam."
            ) from None
        if users.communicator.rank == 0:
            total += self._budget.step * clip * torch.from_numpy(self._noise.gaussian(tuple(total.shape)))
        shared = total.to(users.device)
        users.communicator.all_reduce(shared)
        # The divisor is the expected number of users, which says nothing of who was drawn.
        gradient = shared.cpu() / (self._rate * users.n_users)
        t, (beta1, beta2) = self.step + 1, _BETAS
        self._m.lerp_(gradient, 1 - beta1)
        self._v.lerp_(gradient.square(), 1 - beta2)
        update = (self._m / (1 - beta1**t)) / ((self._v / (1 - beta2**t)).sqrt() + _TINY) * self._schedule(t)
        rate = self.config.learning_rate or _RELATIVE_RATE * self._scale
        self._z -= rate * update[:-1].view_as(self._z)
        self._log_lam = max(self._log_lam - _LAM_RATE * float(update[-1]), math.log(_LEAST_LAM))
        self.step = t
        if t > self.n_steps // 2:
            self._sum += torch.cat((self._z.flatten(), self._z.new_tensor([self._log_lam])))

    def _schedule(self, t: int) -> float:
        """Returns the share of the learning rate at step t = 1, 2, …: linear warm-up, then a cosine to 0."""
        warm_up = min(self.config.warm_up, self.n_steps // 2)
        if t <= warm_up:
            return t / warm_up
        return 0.5 * (1 + math.cos(math.pi * min((t - warm_up) / max(1, self.n_steps - warm_up), 1.0)))

    def _shared_budget(self) -> Budget:
        """The first worker asks the accountant, so that only its machine needs it installed."""
        users, own = self._users, self._own
        found = torch.zeros(3, dtype=torch.float64, device=users.device)
        accountant = ""
        if users.communicator.rank == 0:
            budget = budget_of(own.epsilon, self._delta, own.start, self._rate, self.n_steps)
            accountant = budget.accountant
            found += torch.tensor([budget.start, budget.step, budget.epsilon], device=users.device)
        users.communicator.all_reduce(found)
        start, step, epsilon = found.tolist()
        return Budget(start, step, epsilon, accountant)

    def state(self) -> bytes:
        """Returns the state to go on from, as safetensors; all of it is noised."""
        rows = self._start.rows
        tensors = {"z": self._z, "m": self._m, "v": self._v, "sum": self._sum}
        tensors |= {"start_z": torch.from_numpy(rows.z), "start_v": torch.from_numpy(rows.v)}
        tensors["item_counts"] = torch.from_numpy(self._start.item_counts)
        place = {
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "log_lam": self._log_lam,
            "n_rows": self._start.n_rows,
            "budget": vars(self._budget),
            "cpu_s": self.cpu_s,
        }
        copied = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        return safetensors.torch.save(copied, {"private_distill_cf": json.dumps(place)})

    def _restore(self, content: bytes) -> None:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        place = json.loads(header["__metadata__"]["private_distill_cf"])
        if place["config"] != self.config.model_dump(mode="json"):
            raise DasError(
                "The checkpoint is of a run with other settings; use those, another --output, or start again with "
                "--overwrite."
            )
        tensors = safetensors.torch.load(content)
        self._z, self._m, self._v, self._sum = (tensors[name] for name in ("z", "m", "v", "sum"))
        rows = FactoredRows(tensors["start_z"].numpy(), tensors["start_v"].numpy())
        self._start = PrivateStart(rows, place["n_rows"], tensors["item_counts"].numpy())
        self._budget = Budget(**place["budget"])
        self._scale = float(torch.from_numpy(rows.z).double().square().mean().sqrt())
        self._vectors = ItemVectors(rows.v)
        self.step, self._log_lam, self._clock = place["step"], place["log_lam"], CpuClock(place["cpu_s"])
