"""A model of one's own: popularity, dampened."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import SyntheticRows


class DampenedConfig(ModelConfig):
    """Its settings."""

    power: float = Field(default=0.5, gt=0)
    """Exponent of the counts."""


class Dampened(Recommender):
    """score(u, i) = (train rows of i) ^ power."""

    name: ClassVar[str] = "dampened"
    Config: ClassVar[type[ModelConfig]] = DampenedConfig
    learns_from_rows: ClassVar[bool] = True
    config: DampenedConfig

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        return 16 * n_items

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        self._scores = train.item_counts() ** self.config.power

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        self._scores = rows.values.sum(axis=0).clip(min=0.0).astype(np.float64) ** self.config.power

    def _score(self, histories: Interactions) -> np.ndarray:
        return np.tile(self._scores.astype(np.float32), (len(histories), 1))

    def _weights(self) -> dict[str, np.ndarray]:
        return {"scores": self._scores}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        self._scores = weights["scores"]


class Unfinished(Recommender):
    """Lacks what a model must have."""

    name: ClassVar[str] = "unfinished"

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        """Learns nothing."""
