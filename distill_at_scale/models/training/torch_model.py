"""Base class of gradient-trained models: a recommender from a torch module and a loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.item_blocks import BlockScores
from distill_at_scale.evaluation.metric_names import TrainingMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.device import Device, resolve_device
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.training.batches import Batch, Examples
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.schedule import Schedule
from distill_at_scale.models.training.sources import MemorySource, Source, model_source, most_rows
from distill_at_scale.models.training.trainer import Trainer

ItemScores = Callable[[int, int], torch.Tensor]
"""Function from first and last to the scores of items first … last − 1, [b, last − first]."""

# Parameters, gradients, Adam's two moments, the best so far and a copy for a checkpoint; 4 bytes per number.
_COPIES = 6


class TorchConfig(ModelConfig):
    """Settings that all gradient-trained models share."""

    epochs: int = Field(default=100, ge=1)
    """Maximum number of passes over the train rows; with validation rows, the best one counts."""
    patience: int = Field(default=10, ge=1)
    """Epochs without a better validation metric after which training stops."""
    metric: TrainingMetric = PRIMARY
    """Validation metric."""
    validation_users: int = Field(default=50_000, ge=1)
    """Maximum number of users, drawn by hash, on whom the metric is measured after each epoch."""
    batch_size: int = Field(default=1024, ge=1)
    """Rows or users per step, over all workers."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of Adam."""
    schedule: Schedule = "constant"
    """Learning rate over the steps of all epochs: constant, or linear, which rises over a tenth and then falls to 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments."""
    eps: float = Field(default=1e-8, gt=0)
    """Term ε of Adam's denominators; a larger one, such as 1e-4, damps steps along small gradients."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of Adam: this times each parameter is added to its gradient."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""
    device: Device = "auto"
    """Device for training; scoring uses a GPU if available, unless this is cpu."""


class TorchRecommender(Recommender):
    """A recommender whose weights are those of a torch module.

    Subclasses define ``build``, ``examples``, ``loss`` and ``item_scores``. The :class:`Trainer` does the rest, here
    on one process and in `pipelines` on many.
    """

    by_gradients: ClassVar[bool] = True
    least_rows: ClassVar[str] = "one row is the least"
    """Minimum number of rows for a user to be learned from, as the end of a sentence."""
    memory_hint: ClassVar[str] = "set a smaller dim or batch_size, drop rare items (--min-item), or add memory"
    config: Any

    @abstractmethod
    def build(self, n_users: int, n_items: int) -> nn.Module:
        """Creates a module; its parameters are drawn from torch's generator."""

    def prepare(self, module: nn.Module, source: Source, communicator: Communicator, mean_rating: float) -> None:
        """Sets what a new module must know of the rows before training."""

    @abstractmethod
    def examples(self, rows: Interactions) -> Examples:
        """Returns the examples of a piece of the train rows."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        """Returns the loss summed over a batch, and the weight to divide it by (units, or targets), at this epoch."""

    def finish(self, module: nn.Module, source: Source, communicator: Communicator) -> None:
        """Sets what a trained module derives from its parameters and the rows."""

    @abstractmethod
    def item_scores(self, module: nn.Module, histories: Interactions) -> torch.Tensor:
        """Returns scores [b, n_items] of all items; the module is in eval mode, without gradients."""

    def block_item_scores(self, module: nn.Module, histories: Interactions) -> ItemScores:
        """Returns a function from first and last to the scores [b, last − first] of these items; a model that is
        ``by_blocks`` computes these alone."""
        scores = self.item_scores(module, histories)
        return lambda first, last: scores[:, first:last]

    def module_scores(self, module: nn.Module, histories: Interactions) -> BlockScores:
        """Scores users by blocks of items, with a module in eval mode that may still be in training."""
        with torch.no_grad():
            scores = self.block_item_scores(module, histories)

        def block(first: int, last: int) -> np.ndarray:
            with torch.no_grad():
                return scores(first, last).float().cpu().numpy()

        return block

    @classmethod
    @abstractmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        """Estimates the number of parameters of the module."""

    @classmethod
    @abstractmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        """Estimates the number of activations of a step."""

    @classmethod
    def buffers_needed(cls, n_items: int, config: Any) -> int:
        """Estimates the bytes of what is neither a parameter nor an activation, such as codes of items."""
        return 0

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return 4 * cls.parameters_needed(n_users, n_items, config)

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        kept = _COPIES * cls.parameters_needed(n_users, n_items, config)
        numbers = kept + cls.activations_needed(n_items, config)
        return 4 * numbers + cls.buffers_needed(n_items, config) + 48 * n_rows

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        join = (config or cls.parse_config({})).batch_size if cls.joins_shards else 0
        return most_rows(dataset, workers, join)

    def adopt(self, trainer: Trainer, n_users: int, n_items: int, item_space: str | None = None) -> None:
        """Takes over what ``trainer`` has trained, as :meth:`fit` would."""
        self._module, self._n_users = trainer.module, n_users
        self.n_items, self.item_space, self.selection = n_items, item_space, trainer.selection()

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        source = MemorySource(train, validation)
        trainer = Trainer(self, source, resolve_device(self.config.device))
        trainer.run(progress)
        self.adopt(trainer, source.n_users, source.n_items)

    def _fit_dataset(self, dataset: Dataset, progress: Progress | None) -> None:
        # Piece by piece, as a worker of `fit` reads it: the same batches, with one piece in memory.
        source = model_source(self, dataset)
        trainer = Trainer(self, source, resolve_device(self.config.device))
        trainer.run(progress)
        self.adopt(trainer, source.n_users, source.n_items, dataset.manifest.item_space)
        self.item_ids = dataset.item_ids()
        if progress:
            progress(1.0, "fitted")

    def _score(self, histories: Interactions) -> np.ndarray:
        self._module.to(self._scoring_device()).eval()
        with torch.no_grad():
            return self.item_scores(self._module, histories).float().cpu().numpy()

    def _block_scores(self, histories: Interactions) -> BlockScores:
        self._module.to(self._scoring_device()).eval()
        return self.module_scores(self._module, histories)

    def _scoring_device(self) -> torch.device:
        return torch.device("cuda" if self.config.device != "cpu" and torch.cuda.is_available() else "cpu")

    def _weights(self) -> dict[str, np.ndarray]:
        weights = {key: value.cpu().numpy() for key, value in self._module.state_dict().items()}
        return {**weights, "n_users": np.array([self._n_users], dtype=np.int64)}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        n_users = int(expect_shape(weights, "n_users", (1,))[0])
        with torch.device("meta"):
            module = self.build(n_users, n_items)
        expected = module.state_dict()
        for key, tensor in expected.items():
            expect_shape(weights, key, tuple(tensor.shape))
        if extra := weights.keys() - expected.keys() - {"n_users"}:
            raise ValueError(f"weight '{min(extra)}' is not one of {self.name}")
        module.load_state_dict({key: torch.from_numpy(weights[key]) for key in expected}, assign=True)
        self._module, self._n_users = module, n_users
