"""Rows of an earlier dataset, which an append merges with new ones.

Only users with new rows, or with rows that a filter had dropped, are sorted again. The rows of all others are in order
already; their numbers are replaced by ranks, without looking at a single id twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing, recorded
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.log_record import RestFile
from distill_at_scale.data.manifest import FIX
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.row_order import Keep, ranks
from distill_at_scale.data.preparation.sorted_rows import SortedRows, sort_rows
from distill_at_scale.data.shard_records import ShardRecord

_MS = 1_000_000
_LOG = (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT)


@dataclass(frozen=True)
class EarlierShard:
    """A shard and the bucket that its users belong to."""

    bucket: int
    record: ShardRecord


def part_of(shard: ShardRecord) -> int:
    """Number of a shard's files."""
    return int(shard.data.path.removesuffix(".parquet").rsplit("-", 1)[-1])


@dataclass(frozen=True)
class EarlierRows:
    """Where the rows of an earlier dataset are.

    Attributes:
        uri: Address of the dataset.
        buckets: Number of buckets of its users.
        shards, rest: Its files.
        names: Columns of a row of its log, in order.
        item_ids: Own id of each item number.
        item_rank: int32 [items], their ranks among all item ids of the log.
    """

    uri: str
    buckets: int
    shards: Sequence[EarlierShard]
    rest: Sequence[RestFile]
    names: Sequence[str]
    item_ids: pl.Series
    item_rank: np.ndarray


@dataclass(frozen=True)
class EarlierBucket:
    """Earlier rows of one bucket: those of the shards, by user and in order, and those that were dropped.

    Attributes:
        users: Ids of the users with rows in the shards, in any order.
        columns: user (position in ``users``), item (number), and the others that the log has, times in nanoseconds.
        rest: Dropped rows, with their ids.
        item_ids, item_rank: As in :class:`EarlierRows`.
    """

    users: pl.Series
    columns: dict[str, np.ndarray]
    rest: pl.DataFrame
    item_ids: pl.Series
    item_rank: np.ndarray

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.rest.height + len(self.columns[Columns.USER])


def read_earlier(earlier: EarlierRows, bucket: int, n_buckets: int) -> EarlierBucket:
    """Reads the rows whose user is in ``bucket`` of ``n_buckets``, which need not match the earlier buckets."""
    first, last = bucket * earlier.buckets // n_buckets, -((-(bucket + 1) * earlier.buckets) // n_buckets)
    whole = {one.bucket for one in earlier.rest if one.whole}
    logged = [name for name in _LOG if name in earlier.names]
    users, tables, n = [], [], 0
    for shard in earlier.shards:
        if not first <= shard.bucket < last or shard.bucket in whole:
            continue
        record = shard.record
        ids = recorded.read_parquet(earlier.uri, record.users, FIX, [Columns.USER_ID], record.n_users)
        table = recorded.read_parquet(earlier.uri, record.data, FIX, [Columns.USER, Columns.ITEM, *logged], record.rows)
        users.append(pl.DataFrame(pl.from_arrow(ids))[Columns.USER_ID])
        tables.append(pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col(Columns.USER) + (n - record.first_user)))
        n += record.n_users
    dropped = [
        pl.DataFrame(pl.from_arrow(recorded.read_parquet(earlier.uri, rest.file, FIX)))
        for rest in earlier.rest
        if first <= rest.bucket < last
    ]
    kept = pl.concat(tables) if tables else _no_rows([Columns.USER, Columns.ITEM, *logged])
    user_ids = pl.concat(users) if users else pl.Series(Columns.USER_ID, [], dtype=pl.Int64)
    rest = pl.concat(dropped) if dropped else pl.DataFrame()
    if earlier.buckets % n_buckets:
        if len(user_ids):
            kept = kept.filter(_mine(user_ids, bucket, n_buckets).gather(kept[Columns.USER]))
        if rest.height:
            rest = rest.filter(_mine(rest[Columns.USER_ID], bucket, n_buckets))
    columns = {name: kept[name].to_numpy() for name in kept.columns}
    if Columns.TIMESTAMP in columns:
        columns[Columns.TIMESTAMP] = columns[Columns.TIMESTAMP] * _MS
    return EarlierBucket(user_ids, columns, rest, earlier.item_ids, earlier.item_rank)


def _mine(user_ids: pl.Series, bucket: int, n_buckets: int) -> pl.Series:
    return pl.Series(hashing.share(hashing.hash_ids(user_ids), n_buckets) == bucket)


def _no_rows(names: Sequence[str]) -> pl.DataFrame:
    types = {Columns.RATING: pl.Float32, Columns.SPLIT: pl.Int8}
    return pl.DataFrame(schema={name: types.get(name, pl.Int64) for name in names})


def merge_rows(
    old: EarlierBucket, new: pl.DataFrame, item_ids: ItemIds, keep: Keep, min_rating: float | None, seed: int
) -> SortedRows:
    """Returns what :func:`sort_rows` gives for all rows together; ``new`` rows as it takes them."""
    unsorted = [frame for frame in (old.rest, new) if frame.height]
    user = old.columns[Columns.USER]
    again = np.zeros(len(old.users), dtype=bool)
    if unsorted and len(old.users):
        changed = pl.concat([frame[Columns.USER_ID] for frame in unsorted]).unique()
        again = old.users.is_in(changed.implode()).to_numpy()
    moved = np.flatnonzero(again[user]) if again.any() else np.zeros(0, dtype=np.int64)
    if len(moved):
        logged = {name: values[moved] for name, values in old.columns.items() if name in _LOG}
        unsorted.append(
            pl.DataFrame(
                [
                    old.users.gather(user[moved]).alias(Columns.USER_ID),
                    old.item_ids.gather(old.columns[Columns.ITEM][moved]).alias(Columns.ITEM_ID),
                    *(pl.Series(name, values) for name, values in logged.items()),
                ]
            )
        )
    names = unsorted[0].columns if unsorted else []
    frame = pl.concat([one.select(names) for one in unsorted]) if unsorted else pl.DataFrame()
    made = sort_rows(frame, item_ids, keep, min_rating, seed)
    kept = np.flatnonzero(~again[user])
    if not len(kept):
        return made
    of_user = np.bincount(user[kept], minlength=len(old.users)) > 0
    ids = [old.users.filter(pl.Series(of_user))] + ([made.users] if len(made.users) else [])
    users = pl.concat(ids).sort()
    rank_of_user = np.zeros(len(old.users), dtype=np.int32)
    rank_of_user[of_user] = ranks(ids[0], users)
    columns = {name: values[kept] for name, values in old.columns.items()}
    columns[Columns.USER] = rank_of_user[columns[Columns.USER]]
    columns[Columns.ITEM] = old.item_rank[columns[Columns.ITEM]]
    counts = np.bincount(columns[Columns.USER], minlength=len(users))
    if len(made.users):
        counts[ranks(made.users, users)] = made.counts
        columns = {name: np.concatenate([columns[name], values]) for name, values in made.columns.items()} | {
            Columns.USER: np.concatenate([columns[Columns.USER], ranks(made.users, users)[made.columns[Columns.USER]]])
        }
    # Users are whole on either side, and in order: few sorted runs, which a stable sort merges in linear time.
    order = np.argsort(columns[Columns.USER], kind="stable")
    return SortedRows(
        users.alias(Columns.USER_ID),
        {name: values[order] for name, values in columns.items()},
        made.below,
        made.dropped,
        made.noticed,
        counts,
    )
