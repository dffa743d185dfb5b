"""NeuMF: a generalised dot product and a small network over user and item vectors, in parallel."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.models.item_table import ComposedItems, ItemTableConfig, table_bytes, table_numbers
from distill_at_scale.models.training.user_table import UserTable, UserTableConfig, UserTableRecommender

# Maximum number of entries of the network's first layer during scoring.
_BLOCK = 1 << 22


class NeuMFConfig(ItemTableConfig, UserTableConfig):
    """Settings of NeuMF."""

    dim: int = Field(default=32, ge=1)
    """Width of each of the two vectors of a user and an item."""
    negatives: int = Field(default=4, ge=1)
    """Number of items drawn for each row (implicit)."""


class _Fusion(UserTable):
    """A vector is the concatenation of that for the dot product (GMF) and that for the network (MLP)."""

    def __init__(self, n_users: int, n_items: int, config: NeuMFConfig) -> None:
        dim = config.dim
        super().__init__(n_users, 2 * dim, 2 * dim)
        self.dim = dim
        self.user = nn.Parameter(torch.randn(n_users, 2 * dim) * dim**-0.5)
        self.item: nn.Parameter | ComposedItems
        if config.items == "own":
            self.item = nn.Parameter(torch.randn(n_items, 2 * dim) * dim**-0.5)
        else:
            self.item = ComposedItems(n_items, 2 * dim, config, dim**-0.5)
        # The network's first layer reads user and item concatenated. Two separate matrices are equivalent, and let
        # scoring multiply every item only once.
        self.from_user, self.from_item = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.net = nn.Sequential(nn.ReLU(), nn.Linear(dim, (dim + 1) // 2), nn.ReLU())
        self.dot_weight = nn.Parameter(torch.ones(dim))
        self.net_weight = nn.Parameter(torch.randn((dim + 1) // 2) * dim**-0.5)

    def tables(self) -> tuple[torch.Tensor, torch.Tensor | ComposedItems]:
        return self.user, self.item

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        dot = (items[..., : self.dim] @ (users[:, : self.dim] * self.dot_weight)[..., None])[..., 0]
        first = self.from_user(users[:, None, self.dim :]) + self.from_item(items[..., self.dim :])
        return dot + self.net(first) @ self.net_weight

    def all_items(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        dot = (users[:, : self.dim] * self.dot_weight) @ items[:, : self.dim].T
        own, theirs = self.from_user(users[:, self.dim :]), self.from_item(items[:, self.dim :])
        step = max(1, _BLOCK // theirs.numel())
        parts = [self.net(part[:, None] + theirs) @ self.net_weight for part in own.split(step)]
        return dot + torch.cat(parts) if parts else dot


class NeuMF(UserTableRecommender):
    """score(u, i) = h · [p_u ⊙ q_i, MLP(p'_u, q'_i)].

    Source: He, Liao, Zhang, Nie, Hu, Chua, "Neural collaborative filtering" (WWW 2017), sections 3.2 to 3.4, with
    its log loss (equation 7); without its pre-training of the two halves.
    """

    name: ClassVar[str] = "neumf"
    Config: ClassVar[type[NeuMFConfig]] = NeuMFConfig
    config: NeuMFConfig

    def build(self, n_users: int, n_items: int) -> UserTable:
        return _Fusion(n_users, n_items, self.config)

    def ranking_loss(self, scores: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """−Σ log σ(s⁺) + log(1 − σ(s⁻))."""
        scores = scores.float()
        return F.softplus(-scores[:, 0]).sum() + F.softplus(scores[:, 1:]).masked_fill(seen, 0.0).sum()

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        of_items = table_numbers(n_items, 2 * config.dim, config)
        return n_users * 2 * config.dim + of_items + 4 * config.dim**2

    @classmethod
    def buffers_needed(cls, n_items: int, config: Any) -> int:
        return table_bytes(n_items, config)

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return 8 * config.batch_size * (1 + config.negatives) * 2 * config.dim + 2 * _BLOCK
