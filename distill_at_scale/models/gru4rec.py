"""GRU4Rec: a recurrent network over a user's items in time order."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.models.item_table import table_numbers
from distill_at_scale.models.training.sequential import SequenceEncoder, SequentialConfig, SequentialRecommender


class GRU4RecConfig(SequentialConfig):
    """Settings of GRU4Rec."""

    hidden: int = Field(default=128, ge=1)
    """Width of the recurrent state."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout rate on item vectors and states."""


class Recurrence(nn.Module):
    """A GRU over left-padded sequences; it starts at the first item of each sequence."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Returns states [b, w, hidden] for inputs [b, w, width]; ``real`` bool [b, w]; 0 at the padding."""
        width = x.shape[1]
        padding = (~real).sum(dim=1, keepdim=True)
        positions = torch.arange(width, device=x.device)
        ahead = ((positions + padding) % width)[..., None]
        states, _ = self.gru(x.gather(1, ahead.expand_as(x)))
        back = ((positions - padding) % width)[..., None].expand_as(states)
        return states.gather(1, back) * real[..., None]


class _RecurrentEncoder(SequenceEncoder):
    def __init__(self, n_items: int, config: GRU4RecConfig) -> None:
        super().__init__(n_items, config)
        self.dropout = config.dropout
        self.recurrence = Recurrence(config.dim, config.hidden)
        self.output = nn.Linear(config.hidden, config.dim)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        real = items < self.n_items
        x = F.dropout(self.items(items) * self.items.embedding_dim**0.5, self.dropout, self.training)
        return self.output(F.dropout(self.recurrence(x, real), self.dropout, self.training))


class GRU4Rec(SequentialRecommender):
    """Scores all items from the state after the newest item.

    Source: Hidasi, Karatzoglou, Baltrunas, Tikk, "Session-based recommendations with recurrent neural networks"
    (ICLR 2016); trained with cross-entropy over all items instead of its sampled ranking losses.
    """

    name: ClassVar[str] = "gru4rec"
    Config: ClassVar[type[GRU4RecConfig]] = GRU4RecConfig
    config: GRU4RecConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return _RecurrentEncoder(n_items, self.config)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return table_numbers(n_items + 1, config.dim, config) + 4 * config.hidden * (config.dim + config.hidden + 2)
