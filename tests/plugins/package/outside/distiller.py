"""A distiller of one's own: means of users, dealt out by a hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from distill_at_scale.data import hashing
from distill_at_scale.distillation.distiller import Distilled, Distiller, Job
from distill_at_scale.models.base import ModelConfig

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset


class MeansConfig(ModelConfig):
    """Its settings."""

    users: int = Field(default=10, ge=1)
    """Synthetic users."""
    scale: float = Field(default=1.0, gt=0)
    """Factor of the means."""
    metric: str = "ndcg@10"
    """Validation metric by which models choose."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""


class Means(Distiller):
    """Synthetic user k is the mean of the users that a hash deals to k."""

    name: ClassVar[str] = "means"
    Config: ClassVar[type[BaseModel]] = MeansConfig
    makes = "rows"
    config: MeansConfig

    def memory(self, dataset: Dataset, workers: int) -> int:
        return 16 * self.config.users * dataset.n_items + 12 * dataset.n_rows // workers

    def run(self, job: Job) -> Distilled:
        import torch

        c, dataset = self.config, job.dataset
        sums = torch.zeros(c.users, dataset.n_items + 1, dtype=torch.float64)
        rank, world = job.communicator.rank, job.communicator.world_size
        for shard in range(rank, len(dataset.shards), world):
            rows = dataset.interactions("train", shards=[shard])
            draws = hashing.combine(hashing.stream("outside/means", c.seed), rows.users.astype(np.uint64))
            groups = (draws % np.uint64(c.users)).astype(np.int64)
            np.add.at(sums.numpy(), (np.repeat(groups, rows.counts), rows.items), 1.0)
            np.add.at(sums.numpy(), (groups, dataset.n_items), 1.0)
        job.communicator.all_reduce(sums)
        job.on_progress(0.5, "summed")
        values = (c.scale * sums[:, :-1] / sums[:, -1:].clamp_min(1.0)).numpy().astype(np.float32)
        settings = {"infinite_ae": {"lam": 1.0}, "ease": {"lam": 1.0}}
        return Distilled(values, "means", dataset.manifest.splits["train"], 0.0, settings=settings)


class Searchable(Means):
    """Names settings to search, but not how a trial of them runs."""

    def searched(self) -> dict[str, float]:
        return {"scale": 1.0}


class Sizeless(Means):
    """Lacks the size in its settings."""

    Config: ClassVar[type[BaseModel]] = ModelConfig
