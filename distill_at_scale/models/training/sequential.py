"""Base class of models that read a history as a sequence and predict the next item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.item_blocks import ranking_memory
from distill_at_scale.models.item_table import (
    ComposedItems,
    ItemTable,
    ItemTableConfig,
    OwnItems,
    code_bytes,
    table_bytes,
)
from distill_at_scale.models.training.batches import Batch, Examples, SequenceExamples, pad_left
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.cross_entropy import linear_cross_entropy, sampled_cross_entropy
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.torch_model import ItemScores, TorchConfig, TorchRecommender

# Standard deviation of the items' numbers at the start.
_STD = 0.02
# Products of a position with matrices [dim, dim]: those of two blocks of attention.
_LAYERS = 10


class SequentialConfig(ItemTableConfig, TorchConfig):
    """Settings of sequential models."""

    batch_size: int = Field(default=128, ge=1)
    """Users per step, over all workers."""
    dim: int = Field(default=64, ge=1)
    """Width of the item vectors and of the states."""
    length: int = Field(default=50, ge=1)
    """Number of most recent items of a history that are read."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout rate of item vectors and within the layers."""
    sampled: int = Field(default=0, ge=0)
    """Number of items drawn at each step, among which the next ones are ranked; 0: all items. A step's time then does
    not grow with the catalogue if items is not own."""


class SequenceEncoder(nn.Module, ABC):
    """Computes states at all positions of sequences; item vectors are both input and output weights (tied).

    Attributes:
        items: Table [n_items, dim]; the vector of the padding, item n_items, is 0.
    """

    def __init__(self, n_items: int, config: SequentialConfig) -> None:
        super().__init__()
        self.n_items = n_items
        self.items: ItemTable
        if config.items != "own":
            self.items = ComposedItems(n_items, config.dim, config, _STD)
            return
        self.items = OwnItems(n_items, config.dim)
        nn.init.normal_(self.items.weight, std=_STD)
        with torch.no_grad():
            self.items.weight[n_items] = 0.0

    @abstractmethod
    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Returns states [b, w, dim] after each of the items int64 [b, w], which are left-padded with n_items."""


class SequentialRecommender(TorchRecommender):
    """Learns to rank the next item above all others, at every position of the sequences, by full cross-entropy.

    Practical limits: any number of users; a step takes time in proportion to positions × items, so up to some hundred
    thousand items. For more, ``items=codes sampled=1000``. Repeated items of a user count each time: they are events.
    """

    least_rows: ClassVar[str] = "a sequence needs two"
    by_blocks: ClassVar[bool] = True
    learns_from_sequences: ClassVar[bool] = True
    joins_shards: ClassVar[bool] = True
    config: SequentialConfig

    def examples(self, rows: Interactions) -> Examples:
        return SequenceExamples(rows, self.config.length)

    def prepare(self, module: Any, source: Source, communicator: Communicator, mean_rating: float) -> None:
        if isinstance(module.items, ComposedItems):
            module.items.prepare(source, communicator, self.config.seed)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        padding = module.n_items
        states, following = [], []
        for _, items in by_length(batch["items"], padding):
            real = items[:, :-1] < padding
            states.append(module(items[:, :-1])[real])
            following.append(items[:, 1:][real])
        targets, every = torch.cat(following), torch.cat(states)
        if self.config.sampled:
            drawn = torch.randint(padding, (self.config.sampled,), device=targets.device)
            return sampled_cross_entropy(every, module.items, targets, drawn, padding), len(targets)
        return linear_cross_entropy(every, module.items.vectors(0, padding), targets), len(targets)

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        return self.block_item_scores(module, histories)(0, histories.n_items)

    def block_item_scores(self, module: Any, histories: Interactions) -> ItemScores:
        like = next(module.parameters())
        items = torch.from_numpy(pad_left(histories, self.config.length)).to(like.device)
        states = like.new_empty(len(items), module.items.embedding_dim)
        for chosen, some in by_length(items, module.n_items):
            states[chosen] = module(some)[:, -1].to(states.dtype)
        return lambda first, last: states @ module.items.vectors(first, last).T

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        # At each position that is read, scores of all items or of the drawn ones, and the layers.
        positions = min(n_rows, n_users * config.length)
        return float(config.epochs * positions * config.dim) * ((config.sampled or n_items) + _LAYERS * config.dim)

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        layers = config.batch_size * config.length * 40 * config.dim
        # Besides the layers: the items' vectors if composed, their gradients or the scores of the drawn ones and, in
        # validation, a block of scores.
        copies = 0 if config.sampled else 2 if config.items == "own" else 4
        drawn = config.sampled * (4 * config.batch_size * config.length + 8 * config.dim)
        return layers + copies * n_items * config.dim + drawn + ranking_memory(n_items, bounded=True) // 4

    @classmethod
    def buffers_needed(cls, n_items: int, config: Any) -> int:
        return table_bytes(n_items, config)

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return super().stored_bytes(n_users, n_items, config) + code_bytes(n_items, config)


def by_length(items: torch.Tensor, padding: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Groups sequences of similar length, without the positions that are padding in the whole group.

    Most sequences of a log are far shorter than the longest of a batch; computing at their padding would be wasted.

    Args:
        items: int64 [b, w], left-padded.
        padding: Item number of the padding.

    Yields:
        Indices of rows, int64 [g], and those rows, int64 [g, v], v ≤ w; every row once.
    """
    width = items.shape[1]
    lengths = (items != padding).sum(dim=1)
    # Lengths up to 8 form one group, then the limit doubles: at most a dozen groups.
    v = min(8, width)
    shorter = torch.zeros_like(lengths, dtype=torch.bool)
    while True:
        fitting = ~shorter & (lengths <= v)
        chosen = fitting.nonzero()[:, 0]
        if len(chosen):
            yield chosen, items[chosen, width - v :]
        if v == width:
            return
        shorter |= fitting
        v = min(2 * v, width)
