"""Bias only: a bias per item and per user; the baseline for personalised models."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from distill_at_scale.models.training.user_table import UserTable, UserTableConfig, UserTableRecommender


class BiasConfig(UserTableConfig):
    """Settings of bias-only."""

    epochs: int = Field(default=30, ge=1)
    """Maximum number of passes over the train rows; with validation rows, the best one counts."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate of Adam."""


class _Biases(UserTable):
    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__(n_users, 1, 1)
        self.user = nn.Parameter(torch.zeros(n_users, 1))
        self.item = nn.Parameter(torch.zeros(n_items, 1))

    def tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.user, self.item

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return users + items[..., 0]

    def all_items(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return users + items.T


class Bias(UserTableRecommender):
    """score(u, i) = μ + b_u + b_i.

    Source: Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems" (IEEE Computer 2009),
    equation 3. With the implicit objective b_u cancels out and μ = 0, so all users get the same ranking.
    """

    name: ClassVar[str] = "bias"
    personal: ClassVar[bool] = False
    Config: ClassVar[type[BiasConfig]] = BiasConfig
    config: BiasConfig

    def build(self, n_users: int, n_items: int) -> UserTable:
        return _Biases(n_users, n_items)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return n_users + n_items

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return 8 * config.batch_size * (1 + config.negatives)
