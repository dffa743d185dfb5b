"""What a sampler sees of a shard: its train rows, and hashes that stand for its users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset

# Hashes of items that a core's own cache holds, 256 KiB; to fetch one from farther away costs more than to make it.
_IN_CACHE = 1 << 15


@dataclass(frozen=True)
class TrainRows:
    """The train rows of some users, grouped by user and in time order within each.

    Attributes:
        offsets: int64 [users + 1], where each user's rows begin; a user may have none.
        items: int32 [rows], item numbers.
        user_hash: uint64 [users], of the users' ids. A user's number follows from the number of shards, its
            id does not: what is drawn by this hash is the same however the log was cut.
        n_items: size of the item space.
        timestamps: int64 [rows], or None where they were not asked for.
    """

    offsets: np.ndarray
    items: np.ndarray
    user_hash: np.ndarray
    n_items: int
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.items)

    @property
    def n_users(self) -> int:
        """The number of users, those without rows included."""
        return len(self.user_hash)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 [users], rows of each user."""
        return np.diff(self.offsets)

    @cached_property
    def owner(self) -> np.ndarray:
        """int64 [rows], position of each row's user."""
        return np.repeat(np.arange(self.n_users), self.counts)

    @cached_property
    def position(self) -> np.ndarray:
        """int64 [rows], how many rows of the same user come before."""
        return np.arange(len(self)) - np.repeat(self.offsets[:-1], self.counts)

    def draw(self, begin: hashing.Stream) -> np.ndarray:
        """uint64 [rows]: a number drawn for each row, by its user and item alone."""
        # All but the last step of the hash is the same for all rows of a user, or of an item.
        user = np.repeat(hashing.combine(begin, self.user_hash), self.counts)
        if self.n_items > min(len(self), _IN_CACHE):
            return hashing.append(user, hashing.mix(self.items))
        return hashing.append(user, hashing.mix(np.arange(self.n_items)).take(self.items))


def read_train_rows(dataset: Dataset, shard: int, timestamps: bool = False) -> TrainRows:
    """The train rows of one shard; the times only when asked for."""
    record = dataset.shards[shard]
    wanted = [Columns.USER, Columns.ITEM, Columns.SPLIT] + [Columns.TIMESTAMP] * timestamps
    table = dataset.table(shard, wanted)
    # NumPy takes by position several times faster than by a mask of as many rows.
    keep = np.flatnonzero(table[Columns.SPLIT].to_numpy() == TRAIN)
    users = table[Columns.USER].to_numpy().take(keep) - record.first_user
    return TrainRows(
        offsets=ragged.offsets(np.bincount(users, minlength=record.n_users)),
        items=table[Columns.ITEM].to_numpy().take(keep),
        user_hash=hashing.hash_ids(dataset.users(shard)[Columns.USER_ID]),
        n_items=dataset.n_items,
        timestamps=table[Columns.TIMESTAMP].to_numpy().take(keep) if timestamps else None,
    )
