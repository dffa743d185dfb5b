"""The sketch as a distiller: synthetic users in closed form, by one randomised SVD."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from distill_at_scale.distillation.distill_cf_config import MOST_REAL_ROWS, OVERSAMPLE, DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled, Distiller, Job
from distill_at_scale.evaluation.metric_names import RankingMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.users import RealUsers, ValidationUsers
    from distill_at_scale.models.training.communicator import Communicator
    from distill_at_scale.models.training.sources import Source


_USERS = 500
"""Default number of synthetic users."""
READING = 0.05
"""Share of a run in which the users are read, for the display."""


class SketchConfig(ModelConfig):
    """Settings of the sketch."""

    users: int | None = Field(default=None, ge=1)
    """μ, number of synthetic users; default: 500, or all users with train rows if there are fewer."""
    metric: RankingMetric = PRIMARY
    """Validation metric by which λ is selected."""
    validation_users: int = Field(default=3000, ge=1)
    """Maximum number of users, drawn by hash, on whom the metric is measured."""
    real_rows: int = Field(default=MOST_REAL_ROWS, ge=1)
    """Maximum number of the log's train rows that rows are made from; beyond it as many users as have them are drawn by
    hash."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""


class SketchDistiller(Distiller):
    """The best low-rank approximation of all real rows, rotated towards their clusters."""

    name: ClassVar[str] = "sketch"
    Config: ClassVar[type[BaseModel]] = SketchConfig
    makes = "rows"
    checkpoints = False
    memory_hint = "set fewer users, a smaller real_rows, or more workers"
    config: SketchConfig

    def numbers(self, n_users: int) -> list[int]:
        return [max(1, min(_USERS, n_users)) if self.config.users is None else self.config.users]

    def memory(self, dataset: Dataset, workers: int) -> int:
        return rows_memory(self.config, max(self.numbers(dataset.n_users)), 0, dataset, workers)

    def run(self, job: Job) -> Distilled:
        from distill_at_scale.distillation.select_lambda import select_lambdas
        from distill_at_scale.distillation.sketch import initial_rows

        cpu = time.process_time()
        c, users = self.config, real_users(self.config, job)
        (number,) = self.numbers(users.n_filled)
        values = initial_rows("sketch", number, users, c.seed).cpu().numpy()
        tuned = select_lambdas(values, None, users, c.metric)
        (cpu_s,) = users.added(time.process_time() - cpu)
        rows = tuned.rows
        return Distilled(
            rows.values,
            "free",
            users.n_rows,
            cpu_s,
            chosen=tuned.chosen,
            settings=rows.chosen,
            notes=read_notes(users),
            n_filled=users.n_filled,
            copied=users.copied(rows.values) / number,
        )


def rows_memory(config: Any, number: int, batch: int, dataset: Dataset, workers: int) -> int:
    """Returns the bytes that each worker needs to make rows.

    Args:
        config: Settings; of :class:`SketchConfig` or :class:`DistillCFConfig`.
        number: Number of synthetic users.
        batch: Number of real users per step.
        dataset: Dataset to distill.
        workers: Number of workers.
    """
    # Histories with kernel and predictions; rows with gradient, moments, copies and their start.
    numbers = 6 * batch * dataset.n_items + 13 * number * dataset.n_items + 16 * number * (number + batch)
    return 4 * numbers + users_memory(config, dataset, workers)


def factors_memory(config: DistillCFConfig, number: int, dataset: Dataset, workers: int) -> int:
    """Returns the bytes that each worker needs to make rows in factors; arguments as in :func:`rows_memory`.

    No term is a product of the number of items with that of users.
    """
    from distill_at_scale.evaluation.item_blocks import ranking_memory

    assert config.rank is not None
    items, rank, batch = dataset.n_items, config.rank, config.batch_size
    # Singular vectors: basis, product and their float64 copies. Learned vectors: moments, derivative and best state.
    factors = max(8 * items * (rank + OVERSAMPLE), (8 if config.learns_vectors(items) else 1) * items * rank)
    numbers = factors + 8 * number * rank + 16 * number * (number + batch)
    coordinates = 4 * 64 * int(share_read(config, dataset) * dataset.n_users) // workers
    judging = ranking_memory(items, bounded=True)
    return 4 * numbers + judging + coordinates + users_memory(config, dataset, workers)


def users_memory(config: Any, dataset: Dataset, workers: int) -> int:
    """Returns the bytes of the real users that each worker holds, at most, while it reads them."""
    from distill_at_scale.models.training.sources import most_rows

    learned = share_read(config, dataset) * (24 * dataset.manifest.splits["train"] + 16 * dataset.n_users)
    judged = min(1.0, config.validation_users / max(1, dataset.n_users)) * 8 * dataset.n_rows
    return int((learned + judged) / workers) + 32 * most_rows(dataset, workers)


def share_read(config: Any, dataset: Dataset) -> float:
    """Returns the share of the users that is learned from; all with differential privacy, which counts on them."""
    if getattr(config, "privacy", None) is not None:
        return 1.0
    return min(1.0, config.real_rows / max(1, dataset.manifest.splits["train"]))


def real_users(config: Any, job: Job) -> RealUsers:
    """Reads this worker's share of the real users."""
    from distill_at_scale.distillation.users import RealUsers

    def progress(share: float) -> None:
        job.on_progress(READING * share, "reading the users")

    share = share_read(config, job.dataset)
    return RealUsers(*_source(job), config.seed, config.validation_users, job.device, progress, share)


def validation_users(config: Any, job: Job) -> ValidationUsers:
    """Reads this worker's share of the validation users."""
    from distill_at_scale.distillation.users import ValidationUsers

    return ValidationUsers(*_source(job), config.seed, config.validation_users, job.device)


def read_notes(users: RealUsers) -> list[str]:
    """What to know of the users that rows were made from."""
    if users.share >= 1.0:
        return []
    return [f"Made from {users.n_filled:,} of the log's users, who have {users.n_rows:,} train rows (see real_rows)."]


def _source(job: Job) -> tuple[Source, Communicator]:
    from distill_at_scale.models.training.sources import ShardSource

    return ShardSource(job.dataset, job.communicator.rank, job.communicator.world_size), job.communicator
