"""Memory of a private run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.distill_cf_config import DistillCFConfig


def private_memory(config: DistillCFConfig, dataset: Dataset, workers: int) -> int:
    """Returns the bytes that each worker needs; the second moment of the start is the largest table."""
    from distill_at_scale.distillation.privacy.gradients import BLOCK
    from distill_at_scale.distillation.privacy.loop import RANK, USERS
    from distill_at_scale.distillation.privacy.start import MOST_ITEMS

    number, rank = config.users or USERS, config.rank or RANK
    moment = 6 * min(MOST_ITEMS, dataset.n_items) ** 2
    numbers = moment + 8 * max(BLOCK, number * rank) + 6 * rank * dataset.n_items + 6 * number * number
    return 8 * numbers + 12 * dataset.n_rows // workers
