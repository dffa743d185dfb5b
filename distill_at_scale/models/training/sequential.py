"""Base class of models that read a history as a sequence and predict the next item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.batches import Batch, Examples, SequenceExamples, pad_left
from distill_at_scale.models.training.cross_entropy import linear_cross_entropy
from distill_at_scale.models.training.torch_model import ItemScores, TorchConfig, TorchRecommender


class SequentialConfig(TorchConfig):
    """Settings of sequential models."""

    batch_size: int = Field(default=128, ge=1)
    """Users per step, over all workers."""
    dim: int = Field(default=64, ge=1)
    """Width of the item vectors and of the states."""
    length: int = Field(default=50, ge=1)
    """Number of most recent items of a history that are read."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout rate of item vectors and within the layers."""


class SequenceEncoder(nn.Module, ABC):
    """Computes states at all positions of sequences; item vectors are both input and output weights (tied).

    Attributes:
        items: [n_items + 1, dim]; the last is that of the padding and stays 0.
    """

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=n_items)
        nn.init.normal_(self.items.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[n_items] = 0.0

    @abstractmethod
    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Returns states [b, w, dim] after each of the items int64 [b, w], which are left-padded with n_items."""

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Returns scores [..., n_items] of all items, from states [..., dim]."""
        return states @ self.items.weight[:-1].T


class SequentialRecommender(TorchRecommender):
    """Learns to rank the next item above all others, at every position of the sequences, by full cross-entropy.

    Practical limits: any number of users; a step takes time in proportion to positions × items, so up to some hundred
    thousand items. Repeated items of a user count each time: they are events.
    """

    least_rows: ClassVar[str] = "a sequence needs two"
    by_blocks: ClassVar[bool] = True
    config: SequentialConfig

    def examples(self, rows: Interactions) -> Examples:
        return SequenceExamples(rows, self.config.length)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        padding = len(module.items.weight) - 1
        states, following = [], []
        for _, items in by_length(batch["items"], padding):
            real = items[:, :-1] < padding
            states.append(module(items[:, :-1])[real])
            following.append(items[:, 1:][real])
        targets = torch.cat(following)
        return linear_cross_entropy(torch.cat(states), module.items.weight[:-1], targets), len(targets)

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        return self.block_item_scores(module, histories)(0, histories.n_items)

    def block_item_scores(self, module: Any, histories: Interactions) -> ItemScores:
        table = module.items.weight
        items = torch.from_numpy(pad_left(histories, self.config.length)).to(table.device)
        states = table.new_empty(len(items), table.shape[1])
        for chosen, some in by_length(items, len(table) - 1):
            states[chosen] = module(some)[:, -1].to(states.dtype)
        return lambda first, last: states @ table[first:last].T

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        # Besides the layers: the items' gradients and, in validation, the scores of a batch of users.
        return config.batch_size * config.length * 40 * config.dim + n_items * (2 * config.dim + 16) + (4 << 20)


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
