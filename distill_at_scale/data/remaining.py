"""A dataset without some of its users: their rows of all splits, their ids and their numbers are gone.

The users who stay get new numbers, in the same order. Items keep their numbers, also those that have no rows left, so
that models of items stay usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import Manifest
from distill_at_scale.data.preparation import parquet, restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.data.shard_records import ShardRecord


@dataclass(frozen=True)
class Stayers(PartRecord):
    """Numbers of a shard's users: those who stay and those who are removed.

    Attributes:
        users: Number of users who stay.
        gone: Number of users who are removed.
        gone_train: Their train rows.
    """

    users: int
    gone: int
    gone_train: int


@dataclass(frozen=True)
class RemainingShard(PartRecord):
    """A shard without the users; ``shard`` is None if nobody stays."""

    shard: ShardRecord | None


def forgotten_record(before: Manifest, users: int) -> dict[str, Any]:
    """Returns what a manifest says of removed users, without their ids: their number, and what was removed before.

    Args:
        before: Manifest of the dataset that they are removed from.
        users: Number of users.
    """
    record: dict[str, Any] = {"users": users, "of": before.fingerprint}
    if earlier := before.config.get("forgotten"):
        record["before"] = earlier
    return record


def forgotten_users(manifest: Manifest) -> int:
    """Returns the number of users that were removed from a dataset, over all removals."""
    total, record = 0, manifest.config.get("forgotten")
    while record:
        total, record = total + record["users"], record.get("before")
    return total


def stays(dataset: Dataset, shard: int, ids: pl.Series) -> np.ndarray:
    """Returns which users of a shard stay, bool [n_users].

    Args:
        ids: Ids of the users who do not, of the dataset's type.
    """
    return ~dataset.users(shard)[Columns.USER_ID].is_in(ids.implode()).to_numpy()


def count_stayers(dataset: Dataset, shard: int, ids: pl.Series) -> Stayers:
    """Counts the users of a shard who stay; arguments as in :func:`stays`."""
    users, stay = dataset.users(shard), stays(dataset, shard, ids)
    gone_train = int(users["train"].to_numpy()[~stay].sum())
    return Stayers(int(stay.sum()), int((~stay).sum()), gone_train)


def write_shard(
    dataset: Dataset, shard: int, ids: pl.Series, first_user: int, output: str, counts: str
) -> RemainingShard:
    """Writes a shard without the users.

    Args:
        dataset, shard, ids: As in :func:`stays`.
        first_user: Number of the first user who stays.
        output: Address of the new dataset.
        counts: Address of the train rows per item, which are written.
    """
    table, record, stay = dataset.table(shard), dataset.shards[shard], stays(dataset, shard, ids)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    owner = columns[Columns.USER] - record.first_user
    rows = np.flatnonzero(stay[owner])
    number = first_user + np.cumsum(stay) - 1
    columns[Columns.USER] = number[owner].astype(columns[Columns.USER].dtype)
    split, item = columns[Columns.SPLIT][rows], columns[Columns.ITEM][rows]
    restartable.write_counts(counts, np.bincount(item[split == TRAIN], minlength=dataset.n_items))
    if not stay.any():
        return RemainingShard(None)
    users = dataset.users(shard).filter(pl.Series(stay))
    users = users.with_columns(pl.Series(Columns.USER, number[stay]).cast(users.schema[Columns.USER]))
    kept = pa.table([column.take(rows) for column in columns.values()], schema=table.schema)
    return RemainingShard(
        ShardRecord(
            data=parquet.write_parquet(output, record.data.path, kept),
            users=parquet.write_parquet(output, record.users.path, restartable.to_table(users)),
            first_user=first_user,
            n_users=len(users),
            rows=len(rows),
            splits={name: int(users[name].sum()) for name in record.splits},
        )
    )


def write_items(dataset: Dataset, counts: Sequence[str], output: str) -> FileRecord:
    """Writes the items with the train rows that are left of them, from the counts of all shards."""
    total = np.zeros(dataset.n_items, dtype=np.int64)
    for uri in counts:
        restartable.add_counts(uri, total)
    items = dataset.items().with_columns(pl.Series(Columns.TRAIN_COUNT, total))
    return parquet.write_parquet(output, dataset.manifest.items.path, restartable.to_table(items))
