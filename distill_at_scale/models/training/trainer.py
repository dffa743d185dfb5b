"""Trainer: the loop of all gradient-trained models, the same on one process and on many.

The state consists of the position (epoch, step) and what was learned (parameters, optimizer, the best so far). All
draws are seeded by the position. A run that resumes from a saved state gives the same result as an uninterrupted one,
bit for bit on one worker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores
from distill_at_scale.evaluation.metric_names import needed
from distill_at_scale.models.selection import LOTTERY, GridPoint, Progress, Selection, Validated, doubt
from distill_at_scale.models.training.batches import (
    Batch,
    Examples,
    batches,
    draws_of_parameters,
    draws_of_step,
    seeded,
)
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.schedule import rate_share
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.state_file import read_state, state_parts

# Share of an epoch that is training, where it ends with a validation, for the display.
_TRAINING = 0.8


class Trainable(Protocol):
    """Interface of models that are trained step by step; see `TorchRecommender` for the methods."""

    name: ClassVar[str]
    least_rows: ClassVar[str]
    by_blocks: ClassVar[bool]
    config: Any

    def build(self, n_users: int, n_items: int) -> nn.Module: ...

    def prepare(self, module: nn.Module, source: Source, communicator: Communicator, mean_rating: float) -> None: ...

    def examples(self, rows: Interactions) -> Examples: ...

    def loss(self, module: nn.Module, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]: ...

    def finish(self, module: nn.Module, source: Source, communicator: Communicator) -> None: ...

    def module_scores(self, module: nn.Module, histories: Interactions) -> BlockScores: ...


class Trainer:
    """Trains one model on one worker's share of the rows.

    A step uses ``batch_size`` units over all workers. Gradients are sums over units; they are summed over the workers
    and divided by the total weight, so a worker without further units contributes nothing. Batches do not cross pieces.

    Attributes:
        module: The trained module; after :meth:`run` the best on validation rows, or the last one without them.
        epoch, step: Number of epochs done, and of steps done in the current one.
        taken: Number of steps done in all.
        earlier_cpu_s: CPU-seconds spent before the restored checkpoint.
        points: Validation metric after each epoch.
        figures: Of the last epoch: its number, mean loss per unit, units per second over all workers, and the
            validation metric by its name; empty before its end.
    """

    def __init__(
        self, model: Trainable, source: Source, device: torch.device, communicator: Communicator | None = None
    ) -> None:
        self._model, self._source, self._device = model, source, device
        self._communicator = communicator or Communicator()
        self._config = model.config
        self._batch = max(1, self._config.batch_size // self._communicator.world_size)
        self._examples: tuple[int, Examples] | None = None
        self._batches_of, steps, rated, rating_sum, histories = [], 0, 0, 0.0, 0
        for piece in range(source.n_pieces):
            examples = self._read(piece)
            histories += int((source.train(piece).counts > 0).sum())
            self._batches_of.append(-(-len(examples) // self._batch))
            steps, rated, rating_sum = (
                steps + self._batches_of[-1],
                rated + len(examples),
                rating_sum + examples.rating_sum,
            )
        # Every worker takes as many steps as the one with the most; each writes its own number to its own entry.
        totals = torch.zeros(self._communicator.world_size + 3, dtype=torch.float64, device=device)
        totals[self._communicator.rank], totals[-3], totals[-2], totals[-1] = steps, histories, rated, rating_sum
        self._communicator.all_reduce(totals)
        self.steps_per_epoch, self._histories = int(totals[:-3].max()), int(totals[-3])
        if not self.steps_per_epoch:
            raise DasError(f"{model.name}: no user has enough train rows to learn from; {model.least_rows}.")
        with seeded(draws_of_parameters(self._config.seed)):
            self.module = model.build(source.n_users, source.n_items).to(device)
        with torch.no_grad():
            model.prepare(self.module, source, self._communicator, float(totals[-1] / totals[-2]))
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(
            self._parameters,
            lr=self._config.learning_rate,
            betas=self._config.betas,
            eps=self._config.eps,
            weight_decay=self._config.weight_decay,
            fused=True,
        )
        self.epoch = self.step = self.taken = 0
        self.points: list[GridPoint] = []
        self.figures: dict[str, float] = {}
        # Number of users that validated, as one group: for differences between epochs only the resolution is known.
        self._judges: np.ndarray | None = None
        self._best: dict[str, torch.Tensor] | None = None
        self._loss = torch.zeros(2, dtype=torch.float64, device=device)
        self._clock = time.perf_counter()
        self._cpu, self.earlier_cpu_s = time.process_time(), 0.0

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or the last ``patience`` epochs brought no improvement."""
        waited = len(self.points) and self.epoch - self._best_point().value >= self._config.patience
        return self.epoch >= self._config.epochs or bool(waited)

    @property
    def loss(self) -> float:
        """Mean loss per unit since the epoch began."""
        return float(self._loss[0] / self._loss[1].clamp(min=1))

    def run(self, progress: Progress | None = None, after_step: Callable[[], None] | None = None) -> None:
        """Trains until :attr:`done`, from the current state.

        Args:
            progress: Function called after every step, and before every piece that is validated on.
            after_step: Function called after every step; after the last of an epoch, validation runs first.

        Raises:
            DasError: The loss became NaN or infinite.
        """
        while not self.done:
            for batch in self._batches():
                self._learn(batch)
                self.step, self.taken = self.step + 1, self.taken + 1
                if progress:
                    self._report(progress, f"epoch {self.epoch + 1}")
                if self.step < self.steps_per_epoch and after_step:
                    after_step()
            self._end_epoch(progress)
            if after_step:
                after_step()
        if self._best is not None:
            self.module.load_state_dict(self._best)
        self.module.eval()
        with torch.no_grad():
            self._model.finish(self.module, self._source, self._communicator)

    def selection(self) -> Selection | None:
        """Returns the selection of the number of epochs; None without validation rows."""
        if not self.points:
            return None
        best = self._best_point()
        doubted = None if self._judges is None else doubt([Validated(p.metric, self._judges) for p in self.points])
        return Selection(
            parameter="epochs",
            metric=self._config.metric,
            points=self.points,
            chosen=best.value,
            n_extensions=0,
            at_edge=best.value == self._config.epochs,
            seconds=sum(point.seconds for point in self.points),
            n_users=None if self._judges is None else round(float(self._judges.sum())),
            doubt=doubted,
            lottery=doubted is not None and doubted > LOTTERY,
        )

    def state(self) -> bytes:
        """Serialises everything that :meth:`restore` needs, as safetensors."""
        return b"".join(self.state_parts())

    def state_parts(self) -> list[memoryview]:
        """Returns the pieces of :meth:`state`, which refer to the trainer's memory and change with the next step."""
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        for index, entries in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items()}
        tensors |= {f"best.{key}": value for key, value in (self._best or {}).items()}
        tensors["loss"] = self._loss
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "taken": self.taken,
            "steps_per_epoch": self.steps_per_epoch,
            "points": [point.model_dump() for point in self.points],
        }
        position["judges"] = None if self._judges is None else self._judges.tolist()
        position["cpu_s"] = self.cpu_s
        return state_parts(tensors, {"trainer": json.dumps(position)})

    def restore(self, content: bytes | memoryview) -> None:
        """Restores a state from :meth:`state`, on a trainer with the same settings and rows.

        With another number of workers, whose shares of the rows are others, an epoch goes on at the same share of its
        steps: a step still takes ``batch_size`` units, but some rows come twice in this epoch, and some not at all.
        """
        tensors, metadata = read_state(content)
        position = json.loads(metadata["trainer"])
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, key = name.partition(".")
            groups.setdefault(group, {})[key] = tensor.to(self._device)
        self.module.load_state_dict(groups["module"])
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {}
        for name, tensor in groups.get("optimizer", {}).items():
            index, _, key = name.partition(".")
            optimizer["state"].setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict(optimizer)
        self._best, self._loss = groups.get("best"), groups["loss"][""]
        self.epoch, self.taken = position["epoch"], position["taken"]
        self.step = position["step"] * self.steps_per_epoch // position["steps_per_epoch"]
        self.points = [GridPoint.model_validate(point) for point in position["points"]]
        self._judges = None if position.get("judges") is None else np.array(position["judges"])
        self._cpu, self.earlier_cpu_s = time.process_time(), position["cpu_s"]

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of this worker, including those before a restored checkpoint (of the worker that wrote it)."""
        return self.earlier_cpu_s + time.process_time() - self._cpu

    def _read(self, piece: int) -> Examples:
        """Returns the examples of a piece; only the last ones are cached."""
        if self._examples is None or self._examples[0] != piece:
            self._examples = None
            self._examples = (piece, self._model.examples(self._source.train(piece)))
        return self._examples[1]

    def _batches(self) -> Iterator[Batch | None]:
        """Yields the remaining batches of the current epoch; None once this worker has no further units."""
        seed, epoch, start = self._config.seed, self.epoch, 0
        numbers = np.arange(len(self._batches_of), dtype=np.uint64)
        for piece in np.argsort(hashing.combine(hashing.stream("training/order of pieces", seed, epoch), numbers)):
            stop = start + self._batches_of[piece]
            if stop > self.step:
                rank, skip = self._communicator.rank, max(self.step - start, 0)
                yield from batches(self._read(int(piece)), self._batch, seed, epoch, rank, start, skip)
            start = stop
        for _ in range(max(start, self.step), self.steps_per_epoch):
            yield None

    def _learn(self, batch: Batch | None) -> None:
        self.module.train()
        self._optimizer.zero_grad(set_to_none=True)
        weight = 0.0
        if batch is not None:
            batch = {key: value.to(self._device, non_blocking=True) for key, value in batch.items()}
            begin = draws_of_step(self._config.seed, self.epoch, self.step, self._communicator.rank)
            # bfloat16 needs no loss scaling; parameters and optimizer stay float32.
            mixed = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")
            with seeded(begin), mixed:
                loss, weight = self._model.loss(self.module, batch, self.epoch + self.step / self.steps_per_epoch)
            self._loss += torch.stack((loss.detach().double(), loss.new_tensor(weight, dtype=torch.float64)))
            # A single worker takes the gradient of the mean; a group takes that of the sum and divides after the
            # all-reduce.
            (loss / weight if self._communicator.world_size == 1 else loss).backward()
        if self._communicator.world_size > 1:
            self._add_gradients(weight)
        config, of = self._config, self.steps_per_epoch
        share = rate_share(config.schedule, self.epoch * of + self.step, config.epochs * of)
        self._optimizer.param_groups[0]["lr"] = config.learning_rate * share
        self._optimizer.step()

    def _add_gradients(self, weight: float) -> None:
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        flat = torch.cat([*(part.flatten() for part in parts), parts[0].new_tensor([weight])])
        self._communicator.all_reduce(flat)
        flat[:-1] /= flat[-1]
        for parameter, gradient in zip(self._parameters, flat[:-1].split([p.numel() for p in parts])):
            parameter.grad = gradient.view_as(parameter)

    def _report(self, progress: Progress, what: str, validated: float = 0.0) -> None:
        if not self._communicator.rank:
            training = _TRAINING if self._source.has_validation else 1.0
            of_epoch = training * self.step / self.steps_per_epoch + (1 - training) * validated
            progress(min((self.epoch + of_epoch) / self._config.epochs, 0.999), what)

    def _end_epoch(self, progress: Progress | None) -> None:
        self._communicator.all_reduce(self._loss)
        if not bool(torch.isfinite(self._loss).all()):
            raise DasError(
                f"{self._model.name}: the loss became NaN or infinite in epoch {self.epoch + 1}; "
                "set a smaller learning_rate."
            )
        trained_s, (_, units) = time.perf_counter() - self._clock, self._loss.tolist()
        loss, metric = self.loss, self._validate(progress)
        self.epoch, self.step = self.epoch + 1, 0
        self.figures = {"epoch": self.epoch, "loss": loss, "units_per_s": units / trained_s}
        self._loss = torch.zeros_like(self._loss)
        if metric is not None:
            self.figures[self._config.metric] = metric
            seconds = time.perf_counter() - self._clock
            self.points.append(GridPoint(value=self.epoch, metric=metric, seconds=seconds))
            if self._best_point().value == self.epoch:
                self._best = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
        self._clock = time.perf_counter()

    def _best_point(self) -> GridPoint:
        """Returns the best epoch, the first of equal ones."""
        sign = -1 if self._config.metric == "mse" else 1
        return max(self.points, key=lambda point: sign * point.metric)

    def _validate(self, progress: Progress | None) -> float | None:
        """Returns the validation metric over all workers' users, the same on each; None without such rows."""
        metric = self._config.metric
        ks, more = needed(metric)
        evaluator = RankingEvaluator(
            np.ones(self._source.n_items), ks, n_negatives=0, ratings=metric == "mse", name=self._model.name, more=more
        )
        self.module.eval()
        scorer = BlockScorer(lambda some: self._model.module_scores(self.module, some), self._model.by_blocks)
        for piece in range(self._source.n_pieces):
            heldout = self._source.validation(piece)
            if heldout is None:
                continue
            if progress:
                part = "" if self._source.n_pieces == 1 else f" {piece + 1}/{self._source.n_pieces}"
                self._report(progress, f"epoch {self.epoch + 1}, validating{part}", piece / self._source.n_pieces)
            train = self._source.train(piece)
            chosen = self._validation_users(train, heldout)
            evaluator.add_all(scorer, train.take(chosen, timestamps=False), heldout.take(chosen, timestamps=False))
        sums = [float(evaluator.squared_error), evaluator.n_rated]
        if metric != "mse":
            sums = [float(evaluator.sums.get(metric, 0.0)), evaluator.n_users]
        totals = torch.tensor(sums, dtype=torch.float64, device=self._device)
        self._communicator.all_reduce(totals)
        if metric != "mse":
            self._judges = totals[1:].cpu().numpy()
        return float(totals[0] / totals[1]) if totals[1] else None

    def _validation_users(self, train: Interactions, heldout: Interactions) -> np.ndarray:
        """Returns the positions of the users to validate on: all with train and validation rows, or a sample by hash.

        Users without a history, most of those of a small sample, get the same scores in every epoch. Where no user has
        one, all are asked.
        """
        asked = heldout.counts > 0
        if self._histories:
            asked &= train.counts > 0
        share = self._config.validation_users / (self._histories or self._source.n_users)
        begin = hashing.stream("training/validation users", self._config.seed)
        return np.flatnonzero(asked & hashing.drawn(begin, heldout.users, share))
