"""Distill-CF: a few synthetic users on which ∞-AE performs like on all real users.

Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks: a data-centric approach" (NeurIPS 2022),
section 4. Two families share this loop. The paper's family draws binary-like rows by Gumbel-softmax and maximises the
multinomial likelihood of all of a user's items. Ours uses unconstrained real numbers and minimises the squared error on
items hidden from the input, which is why it can outperform the full data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch

from distill_at_scale.distillation.cpu_clock import CpuClock
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.objectives import objective_of
from distill_at_scale.distillation.select_lambda import Tuned, ridge_score, select_lambdas, select_ridge
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import RowValues

_BETAS, _EPSILON = (0.9, 0.99), 1e-8
# Lower bound of the learned λ: at 0 the kernel of nearly equal rows cannot be factorised.
_LEAST_LAM = 1e-3
# Of the root mean square of the real users' entries.
_RELATIVE_RATE = 0.106


@dataclass(frozen=True)
class Point:
    """One validation: step, metric, and λ at that step."""

    step: int
    metric: float
    lam: float


class DistillCF:
    """The distillation loop of one worker. All workers hold the same rows and optimizer; each has its own users.

    Attributes:
        step: Number of steps done.
        init: Initialisation of the rows.
        sketch: Free rows that they were initialised with, if these are the sketch.
        points: Validations so far.
        loss: Loss of the last step, a mean over users.

    Args:
        config: Settings.
        users: This worker's real users.
        device: Device for the computation.
        start: Initial rows, float32 [μ, n_items]; None: made as the settings say.

    Raises:
        DasError: There are more synthetic users than real ones with train rows.
    """

    def __init__(
        self,
        config: DistillCFConfig,
        users: RealUsers,
        device: torch.device | None = None,
        start: torch.Tensor | None = None,
    ) -> None:
        if config.users is None:
            config = config.model_copy(update={"users": config.numbers(users.n_filled, users.has_validation)[0]})
        self.config, self._users = config, users
        self._hide, rate = config.hidden, config.learning_rate or default_rate(config, users)
        self._lam_rate = config.learning_rate or config.rate
        number = config.users or 1
        self.init: str = config.initialisation if start is None else "earlier result"
        steps = config.steps or default_steps(number, self.init)
        self.n_steps = steps if self._learnable else 0
        self._objective = objective_of(config, users, rate, device or torch.device("cpu"), start)
        self._z = self._objective.start
        # Before a checkpoint can replace the items' factor. No step changes it in place.
        free_sketch = self.init == "sketch" and config.rows == "free"
        self.sketch: RowValues | None = self._objective.rows(self._z) if free_sketch else None
        self._device = self._z.device
        self._log_lam = math.log(config.lam or 1.0)
        # Adam's moments of the rows; those of log λ are last.
        self._m, self._v = (torch.zeros(self._z.numel() + 1, device=self._device) for _ in range(2))
        self.step, self.loss = 0, math.nan
        self._clock = CpuClock()
        self.points: list[Point] = []
        self._best: tuple[torch.Tensor, float] | None = None

    @property
    def family(self) -> str:
        """Kind of rows, with "of the paper" for the paper's family."""
        return self._objective.family

    @property
    def _learnable(self) -> int:
        """Number of users with something to predict from something."""
        everyone = not self._hide or self.config.single_rows == "hidden"
        return self._users.n_filled if everyone else self._users.n_splittable

    @property
    def done(self) -> bool:
        """Whether all steps are done, or the last ``patience`` steps brought no improvement."""
        waited = self.step - self.best_point().step if self.points else 0
        return self.step >= self.n_steps or (self.config.patience is not None and waited >= self.config.patience)

    def run(
        self,
        progress: Progress | None = None,
        after_step: Callable[[], None] | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> None:
        """Distills from the current state until :attr:`done`.

        Args:
            progress: Function called with the share done and the step.
            after_step: Function called after each step.
            give_up: Function called before each step; True ends the run.

        Raises:
            DasError: The loss became NaN or infinite; the state is then that of the last good step.
        """
        if not self.step and not self.points:
            if self.config.lam is None and not self.config.is_of_the_paper and self._users.has_validation:
                rows = self._objective.rows(self._values())
                self._log_lam = math.log(select_ridge(rows, 1.0, self._users, self.config.metric)[0].chosen)
            self._validate()
        while not self.done and not (give_up and give_up()):
            self._learn()
            if self.step % self.config.validate_every == 0 or self.step == self.n_steps:
                self._validate()
            if progress and not self._users.communicator.rank:
                progress(min(self.step / self.n_steps, 0.99), f"step {self.step}")
            if after_step:
                after_step()

    def rows(self) -> tuple[RowValues, float]:
        """Returns the rows with the best validation, float32 [μ, n_items] or factors, and their λ; without validation
        rows, the last ones."""
        found, lam = self._best or (self._values(), self.lam)
        return self._objective.rows(found), lam

    def result(self) -> Tuned:
        """Returns the distilled users of the best step, with λ selected for each model on the validation rows."""
        values, lam = self.rows()
        return select_lambdas(values, lam, self._users, self.config.metric)

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of this worker, including those before a restored checkpoint."""
        return self._clock.seconds

    @property
    def lam(self) -> float:
        """Current value of the learned λ."""
        return math.exp(self._log_lam)

    def state(self) -> bytes:
        """Returns the state for :meth:`restore`, as safetensors."""
        tensors = {"z": self._z, "m": self._m, "v": self._v}
        tensors |= {f"objective.{name}": tensor for name, tensor in self._objective.state().items()}
        place = {
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "log_lam": self._log_lam,
            "cpu_s": self.cpu_s,
            "points": [vars(point) for point in self.points],
        }
        if self._best is not None:
            tensors["best"], place["best_lam"] = self._best
        copied = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        return safetensors.torch.save(copied, {"distill_cf": json.dumps(place)})

    def restore(self, content: bytes) -> None:
        """Restores a state from :meth:`state`.

        Raises:
            DasError: The state is of a run with other settings; the message names them.
        """
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        place = json.loads(header["__metadata__"]["distill_cf"])
        mine = self.config.model_dump(mode="json")
        if differing := sorted(
            key for key in mine.keys() | place["config"].keys() if mine.get(key) != place["config"].get(key)
        ):
            raise DasError(
                f"The checkpoint is of a run with other settings ({', '.join(differing)}); "
                "use those, another --output, or start again with --overwrite."
            )
        tensors = {key: tensor.to(self._device) for key, tensor in safetensors.torch.load(content).items()}
        self._z, self._m, self._v = tensors["z"], tensors["m"], tensors["v"]
        self._objective.restore(
            {key.partition(".")[2]: tensor for key, tensor in tensors.items() if key.startswith("objective.")}
        )
        self.step, self._log_lam = place["step"], place["log_lam"]
        self._clock = CpuClock(place["cpu_s"])
        self.points = [Point(**point) for point in place["points"]]
        self._best = (tensors["best"], place["best_lam"]) if "best" in tensors else None

    def gradient(self, z: torch.Tensor, log_lam: float) -> tuple[float, torch.Tensor, float]:
        """Returns (loss, ∂/∂z, ∂/∂log λ) of the next step, over all workers' users."""
        # As many places as hold batch_size users to learn from, in the mean.
        size, n_users = self.config.batch_size, self._users.n_users
        places = min(round(size * n_users / self._learnable), max(size, n_users))
        train, numbers = self._users.batch(self.step, places)
        inputs, hidden = self._users.hide(train, numbers, self.step, self._hide, self.config.single_rows == "hidden")
        if self._hide:
            teaching = np.flatnonzero(np.diff(hidden.indptr))
            inputs, hidden = inputs[teaching], hidden[teaching]
        values = self._objective.values(z, self.step)
        sums = torch.zeros(values.numel() + 3, device=self._users.device, dtype=values.dtype)
        if inputs.shape[0]:
            loss, d_values, d_log_lam = self._objective.loss(values, log_lam, inputs, hidden)
            sums[:-3] = d_values.flatten()
            sums[-3], sums[-2], sums[-1] = d_log_lam, loss, float(inputs.shape[0])
        self._users.communicator.all_reduce(sums)
        count = sums[-1].clamp_min(1.0)
        d_values = (sums[:-3] / count).view_as(values).to(z.device)
        penalty, d_z = self._objective.pull_back(d_values, z, self.step)
        return float(sums[-2] / count) + penalty, d_z, float(sums[-3] / count)

    def _learn(self) -> None:
        try:
            loss, d_z, d_log_lam = self.gradient(self._z, self._log_lam)
        except (FloatingPointError, OverflowError):
            loss, d_z, d_log_lam = math.nan, self._z, math.nan
        gradient = torch.cat((d_z.flatten(), d_z.new_tensor([d_log_lam])))
        if not math.isfinite(loss) or not bool(torch.isfinite(gradient).all()):
            raise DasError(
                f"distill_cf: the loss became NaN or infinite at step {self.step + 1}; the checkpoint before it is "
                "kept; set a smaller learning_rate or a larger lam."
            )
        # Adam is coded explicitly: a few lines, and its state is easy to save.
        t, (beta1, beta2) = self.step + 1, _BETAS
        self._m.lerp_(gradient, 1 - beta1)
        self._v.lerp_(gradient.square(), 1 - beta2)
        update = (self._m / (1 - beta1**t)) / ((self._v / (1 - beta2**t)).sqrt() + _EPSILON) * self._schedule(t)
        self._z = self._objective.project(self._z - self._objective.rate * update[:-1].view_as(self._z))
        self._log_lam = max(self._log_lam - self._lam_rate * float(update[-1]), math.log(_LEAST_LAM))
        self.step, self.loss = t, loss

    def _schedule(self, t: int) -> float:
        """Returns the share of the learning rate at step t = 1, 2, …: linear warm-up, then a cosine to 0."""
        if t <= self.config.warm_up:
            return t / self.config.warm_up
        done = (t - self.config.warm_up) / max(1, self.n_steps - self.config.warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _values(self) -> torch.Tensor:
        return self._objective.values(self._z, self.step)

    def _validate(self) -> None:
        if not self._users.has_validation:
            return
        rows = self._values()
        score = ridge_score(self._objective.rows(rows), self.lam)
        found = self._users.validation_metric(score, self.config.metric, "distill_cf")
        self.points.append(Point(self.step, found, self.lam))
        if self.best_point().step == self.step:
            self._best = (rows.clone(), self.lam)

    def best_point(self) -> Point:
        """Returns the best validation; ties go to the first."""
        return max(self.points, key=lambda point: point.metric)


def default_rate(config: DistillCFConfig, users: RealUsers) -> float:
    """Returns the learning rate if none is set.

    Adam moves every entry by about the rate, whatever its gradient. For rows that are real numbers it is 0.106 times
    the root mean square of the real users' entries, which is 0.02 on ml-1m: with a rate that is the same for all logs,
    the first steps undo the start of rows with few and short entries.
    """
    if config.is_of_the_paper or config.rows == "binary":
        return config.rate
    return _RELATIVE_RATE * math.sqrt(users.n_rows / (users.n_filled * users.n_items))


def default_steps(users: int, init: str = "random") -> int:
    """Returns the number of steps sufficient on ml-1m: fewer rows need more steps, each of which is cheaper.

    The sketch is nearer to the goal than other initial rows, so fewer steps suffice; an earlier result is nearest,
    with numbers of steps measured on slices of ml-100k (50 rows) and Beauty (200 rows).
    """
    known = ((10, 1200), (40, 900), (100, 700), (500, 300))
    if init == "sketch":
        known = ((10, 1200), (40, 900), (100, 300), (500, 200))
    if init == "earlier result":
        known = ((10, 100), (40, 75), (100, 25), (500, 60))
    return next((steps for most, steps in known if users <= most), known[-1][1])
