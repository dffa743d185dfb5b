"""A random sample of a dataset's users, the same ones however the log is sharded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions


@dataclass(frozen=True)
class SampledUsers:
    """Rows of the users of a sample.

    Attributes:
        numbers: int64 [n], their numbers in the dataset, ascending.
        train, heldout: Train and validation rows of these users, who are numbered 0 … n − 1 here: what a model holds of
            each user is not held of the others.
    """

    numbers: np.ndarray
    train: Interactions
    heldout: Interactions


def sample_users(dataset: Dataset, wanted: int) -> SampledUsers:
    """Returns the users with the smallest hashes of their ids among those with train rows: ``wanted`` of them, or all.

    Memory is that of the sample, of a shard, and 16 bytes for each user.
    """
    begin = hashing.stream("attribute/users")
    draws: list[np.ndarray] = []
    for shard in range(len(dataset.shards)):
        table = dataset.users(shard)
        drawn = hashing.combine(begin, hashing.hash_ids(table[Columns.USER_ID]))
        # The largest draw stands for users without train rows, who have nothing to value.
        drawn[(table["train"] == 0).to_numpy()] = np.iinfo(np.uint64).max
        draws.append(drawn)
    every = np.concatenate(draws)
    n = min(wanted, int((every < np.iinfo(np.uint64).max).sum()))
    threshold = np.partition(every, n - 1)[n - 1] if n else np.uint64(0)
    parts: list[list[Interactions]] = [[], []]
    numbers = []
    for shard, drawn in enumerate(draws):
        chosen = np.flatnonzero(drawn <= threshold) if n else np.empty(0, np.int64)
        if len(chosen):
            for part, split in zip(parts, ("train", "validation")):
                part.append(dataset.interactions(split, shards=[shard]).take(chosen))
            numbers.append(parts[0][-1].users)
    train, heldout = (_renumbered(Interactions.concatenate(part, dataset.n_items)) for part in parts)
    return SampledUsers(np.concatenate([np.empty(0, np.int64), *numbers]), train, heldout)


def _renumbered(rows: Interactions) -> Interactions:
    users = np.arange(len(rows), dtype=np.int64)
    return Interactions(users, rows.offsets, rows.items, rows.n_items, rows.ratings, rows.timestamps)
