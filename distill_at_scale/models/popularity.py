"""Popularity: recommends the items with the most train rows to every user; the baseline for all models."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.item_blocks import BlockScores
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress


class PopularityConfig(ModelConfig):
    """Settings of popularity."""

    weights: bool = False
    """Whether to sum the weights of the train rows, where a sample has them. Worth it for samples of rows by
    sensitivity (at a tenth of the rows of ml-100k and ml-1m validation ndcg@10 is 2 to 8 % higher); on samples of users
    it makes no difference beyond chance."""


class Popularity(Recommender):
    """score(u, i) = number of train rows of i, or with the setting ``weights`` the sum of their weights.

    Practical limits: any number of users; memory is one number per item. Of a Dataset only the list of items is read,
    which holds the counts; for weights its shards, one at a time.
    """

    name: ClassVar[str] = "popularity"
    personal: ClassVar[bool] = False
    by_blocks: ClassVar[bool] = True
    Config: ClassVar[type[ModelConfig]] = PopularityConfig
    config: PopularityConfig

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        return 16 * n_items

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        return 0

    def _fit_dataset(self, dataset: Dataset, progress: Progress | None) -> None:
        counts = dataset.train_counts()
        if not counts.any():
            raise DasError(f"{self.name}: the dataset has no train rows.")
        self.selection = None
        self._counts = counts.astype(np.int64)
        if self.uses_weights and dataset.manifest.has_weights:
            total: np.ndarray = np.zeros(dataset.n_items)
            for k in range(len(dataset.shards)):
                total += dataset.interactions("train", shards=[k], weights=True).item_weights()
            self._counts = total
        self.n_items, self.item_space, self.item_ids = dataset.n_items, dataset.manifest.item_space, dataset.item_ids()
        if progress:
            progress(1.0, "fitted")

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        self._counts = train.item_counts() if train.weights is None else train.item_weights()

    def _score(self, histories: Interactions) -> np.ndarray:
        return self._block_scores(histories)(0, histories.n_items)

    def _block_scores(self, histories: Interactions) -> BlockScores:
        n_users = len(histories)
        return lambda first, last: np.tile(self._counts[first:last].astype(np.float32), (n_users, 1))

    def _weights(self) -> dict[str, np.ndarray]:
        return {"counts": self._counts}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        self._counts = expect_shape(weights, "counts", (n_items,))
