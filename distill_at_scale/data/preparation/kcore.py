"""Third stage of prepare: the k-core, iterated over buckets without collecting users or rows in one place.

Each round counts, bucket by bucket, the rows of each item among the users that still have enough rows; items with too
few rows are dead in the next round. Machines exchange one number per item. The fixpoint is the largest set of rows in
which every user has `min_user` and every item `min_item` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.buckets import read_columns as read_bucket_columns
from distill_at_scale.data.preparation.part_record import PartRecord

FOLDER = "core"
# Each group writes a count of every item, so there are not as many groups as buckets where these are many.
_GROUPS, _BUCKETS_A_GROUP = 128, 16


@dataclass(frozen=True)
class Alive:
    """Surviving users and rows of a bucket, with the numbers of lost rows by reason."""

    users: np.ndarray
    """Mask of surviving users, bool [users of the bucket]."""
    rows: np.ndarray
    """Mask of surviving rows, bool [rows of the bucket]."""
    lost: dict[str, int]
    """Number of rows lost to min_item, min_user and short_history."""


@dataclass(frozen=True)
class CountRecord(PartRecord):
    """A group of buckets whose rows were counted by item."""

    users: tuple[int, ...]
    """Number of surviving users of each bucket."""


@dataclass(frozen=True)
class RoundRecord(PartRecord):
    """Result of a round."""

    items: int
    """Number of surviving items."""
    settled: bool
    """Whether another round would change nothing."""


def counted_while_sorted(n_shards: int) -> bool:
    """Whether the first round counts each bucket on its own, so that it can be done where the bucket is sorted."""
    return len(bucket_groups(n_shards)) == n_shards


def bucket_groups(n_shards: int) -> list[list[int]]:
    """Buckets that one task visits, one after another; the same on any cluster, as a run that is resumed needs."""
    size = min(_BUCKETS_A_GROUP, -(-n_shards // _GROUPS))
    return [list(range(k, min(k + size, n_shards))) for k in range(0, n_shards, size)]


def alive_in_bucket(
    user: np.ndarray,
    item: np.ndarray,
    n_users: int,
    alive_items: np.ndarray | None,
    min_user: int,
    short: int,
) -> Alive:
    """Determines which of a bucket's rows and users survive.

    Args:
        user, item: int32 [rows], ranks as written by `build_bucket`.
        n_users: Number of users in the bucket.
        alive_items: bool [items], None while all items are alive.
        min_user: Minimum number of rows per user.
        short: Minimum number of rows per user for the split rule; counted separately.
    """
    kept = np.ones(len(item), dtype=bool) if alive_items is None else alive_items[item]
    counts = np.bincount(user[kept], minlength=n_users)
    users = counts >= max(min_user, short, 1)
    below = counts < min_user
    rows = kept & users[user]
    return Alive(
        users=users,
        rows=rows,
        lost={
            "min_item": int(len(item) - kept.sum()),
            "min_user": int(counts[below].sum()),
            "short_history": int(counts[~below & ~users].sum()),
        },
    )


def count_first(
    work: str, bucket: int, user: np.ndarray, item: np.ndarray, n_users: int, n_items: int, min_user: int, short: int
) -> CountRecord:
    """What :func:`count_round` does in the first round with a group of one bucket, whose rows are at hand."""
    folder = _round(work, 0)

    def build() -> CountRecord:
        counts, n_alive = _counts(user, item, n_users, n_items, None, min_user, short)
        return _write(folder, bucket, counts, [n_alive])

    return restartable.once(restartable.part(folder, bucket, ".json"), CountRecord, build)


def count_round(
    work: str,
    round_: int,
    group: int,
    buckets: list[int],
    n_items: int,
    alive_items: np.ndarray | None,
    min_user: int,
    short: int,
) -> CountRecord:
    """Counts the rows of each item over a group of buckets and writes the counts to ``work``."""
    folder = _round(work, round_)

    def build() -> CountRecord:
        total = np.zeros(n_items, dtype=np.int64)
        users = []
        for bucket in buckets:
            table, n_users = read_bucket_columns(work, bucket, [Columns.USER, Columns.ITEM])
            user, item = table[Columns.USER].to_numpy(), table[Columns.ITEM].to_numpy()
            counts, n_alive = _counts(user, item, n_users, n_items, alive_items, min_user, short)
            total += counts
            users.append(n_alive)
        return _write(folder, group, total, users)

    return restartable.once(restartable.part(folder, group, ".json"), CountRecord, build)


def _round(work: str, round_: int) -> str:
    return storage.join(work, FOLDER, f"round-{round_:03d}")


def _counts(
    user: np.ndarray,
    item: np.ndarray,
    n_users: int,
    n_items: int,
    alive_items: np.ndarray | None,
    min_user: int,
    short: int,
) -> tuple[np.ndarray, int]:
    """Rows of each item, int64 [items], among the surviving ones of a bucket; and the number of surviving users."""
    alive = alive_in_bucket(user, item, n_users, alive_items, min_user, short)
    counts = np.bincount(item if alive.rows.all() else item[alive.rows], minlength=n_items)
    return counts, int(alive.users.sum())


def _write(folder: str, group: int, counts: np.ndarray, users: Sequence[int]) -> CountRecord:
    restartable.write_counts(restartable.read_once(folder, group, ".arrow"), counts)
    return CountRecord(users=tuple(users))


def decide(work: str, round_: int, counts: str, n_items: int, min_item: int) -> RoundRecord:
    """Determines which items survive a round, given the sum of its counts, and writes the result."""

    def build() -> RoundRecord:
        total = np.zeros(n_items, dtype=np.int64)
        restartable.add_counts(counts, total)
        alive = total >= max(min_item, 1)
        before = n_items if round_ == 0 else int(load_alive(work, round_ - 1).sum())
        restartable.write_arrow(_alive_uri(work, round_), pa.table({"alive": alive}))
        # Items without rows remove no rows, so no user can fall below its minimum.
        items = int(alive.sum())
        return RoundRecord(items=items, settled=min_item <= 1 or items == before)

    return restartable.once(storage.join(work, FOLDER, f"alive-{round_:03d}.json"), RoundRecord, build)


def load_alive(work: str, round_: int) -> np.ndarray:
    """Returns the mask of items, bool [items], that survive a round."""
    return restartable.read_arrow(_alive_uri(work, round_))["alive"].to_numpy()


def _alive_uri(work: str, round_: int) -> str:
    return storage.join(work, FOLDER, f"alive-{round_:03d}.arrow")
