"""The base of models that read a history as a sequence and say which item comes next."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.batches import Batch, Examples, SequenceExamples, pad_left
from distill_at_scale.models.torch_model import TorchConfig, TorchRecommender


class SequentialConfig(TorchConfig):
    """Settings of the models of sequences."""

    batch_size: int = Field(default=128, ge=1)
    """Users of a step, over all workers."""
    dim: int = Field(default=64, ge=1)
    """Width of the items' vectors and of the states."""
    length: int = Field(default=50, ge=1)
    """Items of a history that are read, the last ones."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the entries that a step leaves out, of items' vectors and inside the layers."""


class SequenceEncoder(nn.Module):
    """States of all places of sequences; the items' vectors serve as input and as output (tied).

    Attributes:
        items: [n_items + 1, dim]; the last is the padding's and stays 0.
    """

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=n_items)
        nn.init.normal_(self.items.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[n_items] = 0.0

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """States [b, w, dim] after each of the items int64 [b, w], which are padded at the left with n_items."""
        raise NotImplementedError

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Scores [..., n_items] of all items, from states [..., dim]."""
        return states @ self.items.weight[:-1].T


class SequentialRecommender(TorchRecommender):
    """Learns to rank the next item above all others, at every place of the sequences, by full cross-entropy.

    Practical limits: any number of users, in any order of time; a step holds the scores of all items for every place
    of its sequences, so up to some hundred thousand items (smaller batch_size for more). Items that a user has
    repeatedly count each time: they are events.
    """

    least_rows: ClassVar[str] = "a sequence needs two"
    config: SequentialConfig

    def examples(self, rows: Interactions) -> Examples:
        return SequenceExamples(rows, self.config.length)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        items = batch["items"]
        states, following = module(items[:, :-1]), items[:, 1:]
        real = items[:, :-1] < len(module.items.weight) - 1
        scores = module.scores(states[real])
        return F.cross_entropy(scores.float(), following[real], reduction="sum"), len(scores)

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        items = torch.from_numpy(pad_left(histories, self.config.length)).to(module.items.weight.device)
        return module.scores(module(items)[:, -1])

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return config.batch_size * config.length * (3 * n_items + 40 * config.dim)
