"""The real users of Farzi: a sample that fits in memory, the same on every worker."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions


def drawn_rows(dataset: Dataset, n_users: int, seed: int) -> Interactions:
    """Reads the train rows, in time order, of about ``n_users`` users drawn by hash; of all users if there are fewer.

    Beside the result, one shard is in memory at a time.
    """
    if n_users >= dataset.n_users:
        return dataset.interactions("train")
    parts, begin = [], hashing.stream("farzi/real users", seed)
    for rows in dataset.iter_interactions("train"):
        chosen = np.flatnonzero(hashing.drawn(begin, rows.users, n_users / dataset.n_users))
        parts.append(rows.take(chosen, timestamps=False))
    return Interactions.concatenate(parts, dataset.n_items, items_only=True)
