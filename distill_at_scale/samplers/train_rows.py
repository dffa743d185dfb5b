"""Train rows of a shard, with hashes of its users' ids: the input of samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset

# Number of item hashes that fit in a core's L2 cache (256 KiB); fetching one from beyond costs more than computing it.
_IN_CACHE = 1 << 15


@dataclass(frozen=True)
class TrainRows:
    """The train rows of some users, grouped by user and in time order within each user.

    Attributes:
        offsets: int64 [users + 1], start of each user's rows; a user may have none.
        items: int32 [rows], item numbers.
        user_hash: uint64 [users], hashes of the users' ids. Unlike a user's number, its id does not depend on the
            number of shards, so draws by this hash are the same for any division of the log.
        n_items: Number of items.
        timestamps: int64 [rows], or None if not requested.
    """

    offsets: np.ndarray
    items: np.ndarray
    user_hash: np.ndarray
    n_items: int
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.items)

    @property
    def n_users(self) -> int:
        """Number of users, including those without rows."""
        return len(self.user_hash)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of rows of each user, int64 [users]."""
        return np.diff(self.offsets)

    @cached_property
    def owner(self) -> np.ndarray:
        """Position of each row's user, int64 [rows]."""
        return np.repeat(np.arange(self.n_users), self.counts)

    @cached_property
    def position(self) -> np.ndarray:
        """Number of earlier rows of the same user, int64 [rows]."""
        return np.arange(len(self)) - np.repeat(self.offsets[:-1], self.counts)

    def draw(self, begin: hashing.Stream) -> np.ndarray:
        """Draws a number for each row, uint64 [rows], by its user and item alone."""
        # All but the last step of the hash is common to the rows of a user, or of an item.
        user = np.repeat(hashing.combine(begin, self.user_hash), self.counts)
        if self.n_items > min(len(self), _IN_CACHE):
            return hashing.append(user, hashing.mix(self.items))
        return hashing.append(user, hashing.mix(np.arange(self.n_items)).take(self.items))

    @staticmethod
    def joined(parts: Sequence[TrainRows]) -> TrainRows:
        """Returns the rows of the users of several parts, one after another, without times."""
        return TrainRows(
            offsets=ragged.offsets(np.concatenate([part.counts for part in parts])),
            items=np.concatenate([part.items for part in parts]),
            user_hash=np.concatenate([part.user_hash for part in parts]),
            n_items=parts[0].n_items,
        )


def read_train_rows(dataset: Dataset, shard: int, timestamps: bool = False) -> TrainRows:
    """Reads the train rows of one shard; timestamps only on request."""
    record = dataset.shards[shard]
    wanted = [Columns.USER, Columns.ITEM, Columns.SPLIT] + [Columns.TIMESTAMP] * timestamps
    table = dataset.table(shard, wanted)
    # In NumPy, take by position is several times faster than a boolean mask.
    keep = np.flatnonzero(table[Columns.SPLIT].to_numpy() == TRAIN)
    users = table[Columns.USER].to_numpy().take(keep) - record.first_user
    return TrainRows(
        offsets=ragged.offsets(np.bincount(users, minlength=record.n_users)),
        items=table[Columns.ITEM].to_numpy().take(keep),
        user_hash=hashing.hash_ids(dataset.users(shard)[Columns.USER_ID]),
        n_items=dataset.n_items,
        timestamps=table[Columns.TIMESTAMP].to_numpy().take(keep) if timestamps else None,
    )
