"""SASRec: self-attention over a user's items in time order."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from distill_at_scale.models.item_table import table_numbers
from distill_at_scale.models.training.sequential import SequenceEncoder, SequentialConfig, SequentialRecommender


class SASRecConfig(SequentialConfig):
    """Settings of SASRec."""

    blocks: int = Field(default=2, ge=1)
    """Number of attention layers."""
    heads: int = Field(default=1, ge=1)
    """Number of attention heads per layer; must divide dim."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> SASRecConfig:
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} must divide dim={self.dim}")
        return self


class Attention(nn.Module):
    """Causal self-attention without fused kernels, which lack the second derivative that distillation needs."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        # A bias here would shift all scores of a query equally: its gradient is 0, and Adam would step on round-off.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)

    def forward(
        self, asking: torch.Tensor, asked: torch.Tensor, allowed: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns [b, w, dim] from inputs of queries and keys [b, w, dim].

        ``allowed`` bool [b, w, w], query by key; ``bias`` [b, w, w] is added to the scores.
        """
        b, w, dim = asking.shape
        q, k, v = (
            part.view(b, w, self.heads, dim // self.heads).transpose(1, 2)
            for part in (self.query(asking), self.key(asked), self.value(asked))
        )
        scores = q @ k.transpose(2, 3) / (dim // self.heads) ** 0.5
        scores = (scores if bias is None else scores + bias[:, None]).masked_fill(~allowed[:, None], -torch.inf)
        mixed = F.dropout(scores.softmax(dim=3), self.dropout, self.training) @ v
        return mixed.transpose(1, 2).reshape(b, w, dim)


class Block(nn.Module):
    """Attention and a pointwise feed-forward network, each with a residual connection."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention = Attention(dim, heads, dropout)
        self.before_attention, self.before_net = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Maps [b, w, dim] to [b, w, dim]."""
        asking = self.before_attention(x)
        x = asking + self.attention(asking, x, allowed, bias)
        x = self.before_net(x)
        inner = F.dropout(self.inner(x).relu(), self.dropout, self.training)
        return x + F.dropout(self.outer(inner), self.dropout, self.training)


class AttentionEncoder(SequenceEncoder):
    """Item and position vectors, then attention blocks. Positions count backwards from the newest item."""

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__(n_items, config)
        self.dropout = config.dropout
        self.places = nn.Parameter(torch.randn(config.length, config.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.dropout) for _ in range(config.blocks))
        self.last = nn.LayerNorm(config.dim, eps=1e-8)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        width = items.shape[1]
        real = items < self.n_items
        x = self.items(items) * self.items.embedding_dim**0.5 + self.places[-width:]
        x = F.dropout(x, self.dropout, self.training)
        allowed = visible(real)
        for block in self.blocks:
            # Padding stays 0, whatever the layers add to it.
            x = block(x * real[..., None], allowed)
        return self.last(x)


def visible(real: torch.Tensor) -> torch.Tensor:
    """Returns, bool [b, w, w], the positions (last axis) that each position attends to: earlier items, and itself."""
    width = real.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(width, dtype=torch.bool, device=real.device)
    return causal & (real[:, None, :] | itself)


class SASRec(SequentialRecommender):
    """Scores all items from the state after the newest item.

    Source: Kang, McAuley, "Self-attentive sequential recommendation" (ICDM 2018), section III; trained with
    cross-entropy over all items instead of one sampled negative, which is known to matter more than other choices
    (Klenitskiy, Vasilev, "Turning dross into gold loss", RecSys 2023).
    """

    name: ClassVar[str] = "sasrec"
    Config: ClassVar[type[SASRecConfig]] = SASRecConfig
    config: SASRecConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return AttentionEncoder(n_items, self.config)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        layers = config.dim * config.length + config.blocks * 5 * config.dim * (config.dim + 2)
        return table_numbers(n_items + 1, config.dim, config) + layers

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        attention = 4 * config.batch_size * config.blocks * config.heads * config.length**2
        return super().activations_needed(n_items, config) + attention
