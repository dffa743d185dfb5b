"""Learners: models trained by gradients, as functions of their parameters and of the weights of train rows.

Batches, negatives, dropout and initial parameters are those of :mod:`models.training.trainer` on one worker that reads
all rows as one piece: at weight 1 the training is that of `das fit`, with its number of epochs fixed. A row of weight w
near 1 changes the training, to first order, as if it were left out with probability 1 − w:

- **SASRec, GRU4Rec** (:class:`SequenceLearner`). The row is a target of weight w. The item after it is predicted with
  weight w from the state after the row, with weight 1 − w from the state before it. Later states read the row by its
  weight (:meth:`Student.states`). The divisor of a step's loss is the sum of the weights of its targets.
- **MF** (:class:`PairLearner`). The row is a positive example of weight w; drawn as a negative of its user it has the
  weight 1 − w. The divisor is the sum of the batch's weights.

A left out row leaves the units, so a batch, in their places: dropping a row from the log does the same unless its user
has too few rows left to learn from (sequences), or else moves the rows after it up by one place in their batch (MF).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution.cross_entropy import log_partition
from distill_at_scale.distillation.students import create_student
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.models.mf import MF
from distill_at_scale.models.training.batches import (
    Batch,
    PairExamples,
    SequenceExamples,
    batches,
    distinct_pairs,
    draws_of_parameters,
    draws_of_step,
    pad_left,
    pair_keys,
    seeded,
)
from distill_at_scale.models.training.sequential import SequentialRecommender, by_length
from distill_at_scale.models.training.torch_model import TorchRecommender

Parameters = dict[str, torch.Tensor]


class Learner(ABC):
    """A model's training, step by step, and its scores.

    Attributes:
        config: Settings of the model.
        n_steps: Number of steps of the whole training.
        row_users, row_items: int64 [n_rows], user and item of each row that has a weight.
    """

    config: Any
    n_steps: int
    row_users: np.ndarray
    row_items: np.ndarray

    @abstractmethod
    def parameters(self) -> Parameters:
        """Returns the initial parameters."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """Returns a step's batch; ``rows`` int64, of any shape, are the rows whose weights :meth:`loss` takes."""

    @abstractmethod
    def loss(self, parameters: Parameters, batch: Batch, weights: torch.Tensor | None) -> torch.Tensor:
        """Returns the loss of a step, a scalar, twice differentiable.

        Args:
            parameters: In the form of :meth:`parameters`.
            batch: Of :meth:`batch`.
            weights: Of the rows ``batch["rows"]``, in their shape; None: all are 1.
        """

    @abstractmethod
    def scores(self, parameters: Parameters, histories: Interactions) -> torch.Tensor:
        """Returns the scores of all items, [b, n_items], without dropout."""

    @abstractmethod
    def losses(self, parameters: Parameters, batch: Batch) -> torch.Tensor:
        """Returns each row's loss as a target at weight 1, in the shape of ``batch["rows"]``; 0 for those without."""

    def draws(self, step: int) -> hashing.Stream:
        """Returns the stream of a step's dropout."""
        return draws_of_step(self.config.seed, *divmod(step, self._per_epoch))

    def _start(self, examples: Any, recommender: TorchRecommender) -> None:
        config = recommender.config
        self.config, self._examples = config, examples
        self._per_epoch = -(-len(examples) // config.batch_size)
        self.n_steps = self._per_epoch * config.epochs
        if not self.n_steps:
            raise DasError(
                f"{recommender.name}: no user has enough train rows to learn from; {recommender.least_rows}."
            )
        self._epoch: tuple[int, list[Batch]] = (-1, [])

    def _drawn(self, step: int) -> Batch:
        """The batch as the model's examples give it; those of an epoch are held."""
        epoch, k = divmod(step, self._per_epoch)
        if self._epoch[0] != epoch:
            drawn = batches(self._examples, self.config.batch_size, self.config.seed, epoch)
            self._epoch = (epoch, list(drawn))
        return self._epoch[1][k]


class SequenceLearner(Learner):
    """SASRec or GRU4Rec; rows are events, in the order of ``train``."""

    def __init__(self, model: str, settings: dict[str, Any], train: Interactions) -> None:
        self._student = create_student(model, train.n_items, settings)
        self._recommender = cast(SequentialRecommender, create_model(model, settings))
        self._n_rows = train.n_rows
        self.row_users, self.row_items = np.repeat(train.users, train.counts), train.items.astype(np.int64)
        self._item_of = torch.from_numpy(np.append(self.row_items, train.n_items))
        # Sequences of the rows' numbers instead of their items.
        numbers = Interactions(train.users, train.offsets, np.arange(train.n_rows, dtype=np.int32), train.n_rows)
        self._start(SequenceExamples(numbers, self._recommender.config.length), self._recommender)

    def parameters(self) -> Parameters:
        with seeded(draws_of_parameters(self.config.seed)):
            module = self._recommender.build(0, self._student.n_items)
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def batch(self, step: int) -> Batch:
        rows = self._drawn(step)["items"]
        return {"rows": rows, "items": self._item_of[rows]}

    def loss(self, parameters: Parameters, batch: Batch, weights: torch.Tensor | None) -> torch.Tensor:
        states, next_items, shares = [], [], []
        for chosen, place, items in self._groups(batch):
            inputs, real = items[:, :-1], items[:, :-1] < self._student.n_items
            some = None if weights is None else weights[chosen][:, place]
            found = self._student.states(parameters, inputs, training=True, weights=some)[real]
            targets, share = items[:, 1:, None], None
            if some is not None:
                # With probability 1 − w the next row is left out, and the one after it is predicted.
                after = F.pad(some, (0, 1))[:, 2:]
                skipping = after * (1 - some[:, 1:]) * some[:, :-1]
                share = torch.stack((some[:, 1:] * some[:, :-1], skipping), 2)[real]
                beyond = F.pad(items, (0, 1), value=0)[:, 2:, None]
                targets = torch.cat((targets, beyond), 2)
            states.append(found)
            next_items.append(targets[real])
            shares.append(share)
        h, targets, table = torch.cat(states), torch.cat(next_items), self._student.table(parameters)
        if weights is None:
            share = torch.ones_like(targets, dtype=table.dtype)
        else:
            share = torch.cat([part for part in shares if part is not None])
        right = (h[:, None] * F.embedding(targets, table)).sum(2)
        return (log_partition(h, table, share.sum(1)) - (share * right).sum()) / share.sum()

    def losses(self, parameters: Parameters, batch: Batch) -> torch.Tensor:
        table = self._student.table(parameters)
        found = torch.zeros(batch["rows"].shape, dtype=table.dtype)
        for chosen, _, items in self._groups(batch):
            real = items[:, :-1] < self._student.n_items
            states = self._student.states(parameters, items[:, :-1])
            targets = items[:, 1:, None].clamp(max=len(table) - 1)
            logs = -torch.log_softmax(states @ table.T, 2).gather(2, targets)[..., 0]
            wide = F.pad(logs * real, (found.shape[1] - logs.shape[1], 0))
            found = found.index_copy(0, chosen, wide)
        return found

    def scores(self, parameters: Parameters, histories: Interactions) -> torch.Tensor:
        items = torch.from_numpy(pad_left(histories, self._student.length))
        found, order = [], []
        for chosen, some in by_length(items, self._student.n_items):
            found.append(self._student.states(parameters, some)[:, -1])
            order.append(chosen)
        states = torch.cat(found)[torch.cat(order).argsort()]
        return states @ self._student.table(parameters).T

    def _groups(self, batch: Batch) -> Any:
        """Yields as :func:`by_length`: rows of the batch, columns, and items there."""
        width = batch["items"].shape[1]
        for chosen, items in by_length(batch["items"], self._student.n_items):
            yield chosen, slice(width - items.shape[1], width), items


class PairLearner(Learner):
    """MF with its ranking loss; rows are distinct pairs of user and item."""

    def __init__(self, model: str, settings: dict[str, Any], train: Interactions) -> None:
        self._recommender = cast(MF, create_model(model, settings))
        config = self._recommender.config
        if config.objective != "implicit":
            raise SettingError(f"attribute: {model} is trained with objective=implicit only; omit objective.")
        if config.items != "own":
            raise SettingError(f"attribute: {model} is trained with items=own only; omit items.")
        self._n_users, self._n_items = int(train.users[-1]) + 1, train.n_items
        users = np.repeat(train.users, train.counts)
        self._pairs = distinct_pairs(users, train.items.astype(np.int64), train.n_items)
        self.row_users, self.row_items = np.divmod(self._pairs, train.n_items)
        with torch.device("meta"):
            self._module = self._recommender.build(1, train.n_items)
        self._start(PairExamples(train, config.negatives), self._recommender)

    def parameters(self) -> Parameters:
        with seeded(draws_of_parameters(self.config.seed)):
            module = self._recommender.build(self._n_users, self._n_items)
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def batch(self, step: int) -> Batch:
        drawn = self._drawn(step)
        items = torch.cat((drawn["item"][:, None], drawn["negative"]), 1)
        keys = pair_keys(drawn["user"][:, None].numpy(), items.numpy(), self._n_items)
        rows = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        return {**drawn, "items": items, "rows": torch.from_numpy(rows)}

    def loss(self, parameters: Parameters, batch: Batch, weights: torch.Tensor | None) -> torch.Tensor:
        losses = self._losses(parameters, batch, weights, self.config.dropout)
        return losses.mean() if weights is None else (losses * weights[:, 0]).sum() / weights[:, 0].sum()

    def losses(self, parameters: Parameters, batch: Batch) -> torch.Tensor:
        own = self._losses(parameters, batch, None, 0.0)
        return F.pad(own[:, None], (0, batch["items"].shape[1] - 1))

    def scores(self, parameters: Parameters, histories: Interactions) -> torch.Tensor:
        users = parameters["user"][torch.from_numpy(histories.users)]
        return self._module.all_items(users, parameters["item"])

    def _losses(
        self, parameters: Parameters, batch: Batch, weights: torch.Tensor | None, dropout: float
    ) -> torch.Tensor:
        """−log of the share of the row's item among it and the items drawn, [b]."""
        users = F.dropout(F.embedding(batch["user"], parameters["user"]), dropout)
        items = F.dropout(F.embedding(batch["items"], parameters["item"]), dropout)
        scores = self._module.pairs(users, items)
        # A drawn item that the user has is none of the others, unless that row is left out.
        if weights is None:
            others = scores[:, 1:].masked_fill(batch["seen"], -torch.inf)
            return torch.cat((scores[:, :1], others), 1).logsumexp(1) - scores[:, 0]
        shares = torch.where(batch["seen"], 1 - weights[:, 1:], 1.0)
        highest = scores.detach().amax(1, keepdim=True)
        powers = (scores - highest).exp()
        return (powers[:, 0] + (shares * powers[:, 1:]).sum(1)).log() - (scores - highest)[:, 0]


LEARNERS: dict[str, type[SequenceLearner] | type[PairLearner]] = {
    "sasrec": SequenceLearner,
    "gru4rec": SequenceLearner,
    "mf": PairLearner,
}
"""Learners by the model's name."""


# A rate that falls lets the last steps settle, and more of smaller ones are smoother: on ml-100k .86 (seeds 1 to 3: .68
# to .76) where a constant rate with batches of 256 has .59 (linear datamodelling score, 50 retrainings).
_SEQUENCES: dict[str, Any] = {"epochs": 8, "dropout": 0.0, "eps": 1e-4, "batch_size": 128}
_SEQUENCES |= {"learning_rate": 3e-3, "schedule": "linear"}
SMOOTH: dict[str, dict[str, Any]] = {"sasrec": _SEQUENCES, "gru4rec": _SEQUENCES, "mf": {"epochs": 10}}
"""Settings of a training whose derivative predicts well what dropping rows does, where they are others than the
model's."""


def settings_of(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a training to attribute: those given, else :data:`SMOOTH`."""
    return {**SMOOTH[model], **given}


def steps_of(model: str, config: Any, n_users: int, n_rows: int) -> int:
    """Estimates the number of steps of a training from the size of the log: of users, or of their rows."""
    examples = n_rows if LEARNERS[model] is PairLearner else n_users
    return int(-(-examples // config.batch_size) * config.epochs)


def create_learner(model: str, settings: dict[str, Any], train: Interactions) -> Learner:
    """Returns the learner of a model on train rows.

    Raises:
        SettingError: A setting is wrong.
        DasError: No user has enough rows.
    """
    return LEARNERS[model](model, settings, train)
