"""Last stage of prepare: numbers and splits a bucket's surviving rows and writes them as a shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import hashing, ragged, recorded, splits, storage
from distill_at_scale.data.columns import SPLITS, Columns, SplitRule
from distill_at_scale.data.dataset import SHARD_SCHEMA
from distill_at_scale.data.manifest import ShardRecord
from distill_at_scale.data.preparation import quantiles, restartable
from distill_at_scale.data.preparation.buckets import read_columns, read_user_ids
from distill_at_scale.data.preparation.kcore import Alive, alive_in_bucket
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.registry import SPLIT_RULES

FOLDER = "shards"
USERS = "users"


@dataclass(frozen=True)
class Numbering:
    """Numbering of the surviving items, common to all shards.

    Attributes:
        alive: bool [vocabulary], surviving item ids.
        filters: Whether items need more than one row. If not, items that do not survive have merely lost their users,
            and no row is lost because of them.
        item_hash: uint64 [vocabulary], for split rules that shuffle (None for others).
    """

    alive: np.ndarray
    filters: bool
    item_hash: np.ndarray | None

    @property
    def item(self) -> np.ndarray:
        """Number of each surviving item, int32 [vocabulary]."""
        return (np.cumsum(self.alive) - 1).astype(np.int32)


@dataclass(frozen=True)
class SplitChoice:
    """Split rule with its parameters: a seed, and the two times (ms) of a rule that goes by them."""

    rule: SplitRule
    seed: int = 0
    validation_from: int = 0
    test_from: int = 0


@dataclass(frozen=True)
class WrittenShard(PartRecord):
    """A bucket whose surviving rows were written."""

    shard: ShardRecord | None
    """None if no user is left."""
    lost: dict[str, int]
    """Number of rows lost to min_item, min_user and short_history."""
    tied: dict[str, int]
    """Number of held-out rows of each split that a draw chose (see :func:`splits.tied`)."""


@dataclass(frozen=True)
class WrittenItems:
    """The file ``items.parquet`` of a dataset."""

    file: FileRecord
    n_items: int
    item_space: str


def _survivors(work: str, bucket: int, numbering: Numbering, min_user: int, short: int) -> tuple[pa.Table, Alive]:
    table, n_users = read_columns(work, bucket)
    user, item = table[Columns.USER].to_numpy(), table[Columns.ITEM].to_numpy()
    alive_items = numbering.alive if numbering.filters else None
    return table, alive_in_bucket(user, item, n_users, alive_items, min_user, short)


def times_histogram(
    work: str, buckets: list[int], numbering: Numbering, min_user: int, ranges: list[tuple[int, int]]
) -> list[np.ndarray]:
    """Returns histograms (see `quantiles`) of the surviving rows' times over some buckets, one per range."""
    totals = [np.zeros(quantiles.BINS, dtype=np.int64) for _ in ranges]
    for bucket in buckets:
        rows, alive = _survivors(work, bucket, numbering, min_user, 1)
        if not alive.users.any():
            continue
        times = _ms(rows[Columns.TIMESTAMP].to_numpy()[alive.rows])
        for total, (low, high) in zip(totals, ranges):
            total += quantiles.histogram(times, low, high)
    return totals


def build_shard(
    output: str,
    work: str,
    bucket: int,
    numbering: Numbering,
    first_user: int,
    split: SplitChoice,
    min_user: int,
) -> WrittenShard:
    """Writes shard ``bucket`` and its users, and the train rows of each item to ``work``."""
    folder = storage.join(work, FOLDER)

    def build() -> WrittenShard:
        raw, alive = _survivors(work, bucket, numbering, min_user, SPLIT_RULES.find(split.rule).shortest)
        if not alive.users.any():
            return WrittenShard(shard=None, lost=alive.lost, tied={})
        ids = read_user_ids(work, bucket).filter(pl.Series(alive.users))
        return _write(output, folder, bucket, raw, alive, ids, numbering, first_user, split)

    return restartable.once(restartable.part(folder, bucket, ".json"), WrittenShard, build)


def _write(
    output: str,
    folder: str,
    bucket: int,
    raw: pa.Table,
    alive: Alive,
    ids: pl.Series,
    numbering: Numbering,
    first_user: int,
    split: SplitChoice,
) -> WrittenShard:
    keep = np.flatnonzero(alive.rows)

    def column(name: str) -> np.ndarray:
        return raw[name].to_numpy()[keep]

    n_users, n_items, rows = len(ids), int(numbering.alive.sum()), len(keep)
    rank = (np.cumsum(alive.users) - 1)[column(Columns.USER)]
    item = column(Columns.ITEM)
    offsets = ragged.offsets(np.bincount(rank, minlength=n_users))
    rule: splits.Split = SPLIT_RULES.find(split.rule)
    code = rule.assign(_Rows(offsets, column, ids, item, numbering, split))
    tied = splits.tied(offsets, column(Columns.TIMESTAMP), code) if rule.by_order else {}
    item = numbering.item[item]
    names = raw.column_names
    shard = pa.table(
        [
            rank + first_user,
            item,
            column(Columns.RATING) if Columns.RATING in names else np.ones(rows, np.float32),
            _ms(column(Columns.TIMESTAMP)) if Columns.TIMESTAMP in names else np.zeros(rows, np.int64),
            code,
        ],
        schema=SHARD_SCHEMA,
    )
    per_split = {name: np.bincount(rank[code == value], minlength=n_users) for name, value in SPLITS.items()}
    users = pa.table(
        {
            Columns.USER: np.arange(first_user, first_user + n_users, dtype=np.int64),
            Columns.USER_ID: restartable.to_table(pl.DataFrame({Columns.USER_ID: ids}))[Columns.USER_ID],
            **per_split,
        }
    )
    restartable.write_counts(
        restartable.part(folder, bucket, ".counts.arrow"),
        np.bincount(item[code == SPLITS["train"]], minlength=n_items),
    )
    record = ShardRecord(
        data=write_parquet(output, restartable.part(FOLDER, bucket, ".parquet"), shard),
        users=write_parquet(output, restartable.part(USERS, bucket, ".parquet"), users),
        first_user=first_user,
        n_users=n_users,
        rows=rows,
        splits={name: int(counts.sum()) for name, counts in per_split.items()},
    )
    return WrittenShard(shard=record, lost=alive.lost, tied=tied)


class _Rows:
    """A shard's rows as split rules see them."""

    def __init__(
        self,
        offsets: np.ndarray,
        column: Callable[[str], np.ndarray],
        ids: pl.Series,
        item: np.ndarray,
        numbering: Numbering,
        choice: SplitChoice,
    ) -> None:
        self.offsets, self._column, self._ids, self._item, self._numbering = offsets, column, ids, item, numbering
        self.seed, self.validation_from, self.test_from = choice.seed, choice.validation_from, choice.test_from

    @property
    def timestamps(self) -> np.ndarray:
        return _ms(self._column(Columns.TIMESTAMP))

    @property
    def user_hash(self) -> np.ndarray:
        return hashing.hash_ids(self._ids)

    @property
    def item_hash(self) -> np.ndarray:
        assert self._numbering.item_hash is not None
        return self._numbering.item_hash[self._item]

    @property
    def given(self) -> np.ndarray:
        return self._column(Columns.SPLIT)


def _ms(nanoseconds: np.ndarray) -> np.ndarray:
    return nanoseconds // 1_000_000


def write_parquet(output: str, path: str, table: pa.Table) -> FileRecord:
    """Writes ``table`` to ``path`` inside ``output``."""
    sink = pa.BufferOutputStream()
    # Sorted columns have small differences and suit delta encoding; few distinct values suit a dictionary.
    delta = [c for c in (Columns.USER, Columns.TIMESTAMP) if c in table.column_names]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        row_group_size=1 << 20,
        use_dictionary=[c for c in (Columns.RATING, Columns.SPLIT) if c in table.column_names],
        column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
    )
    content = sink.getvalue()
    storage.write_bytes(storage.join(output, path), content)
    return recorded.record_of(path, content)


def write_items(output: str, item_ids: pl.Series, numbering: Numbering, train_counts: str) -> WrittenItems:
    """Writes ``items.parquet``."""
    ids = item_ids.filter(pl.Series(numbering.alive))
    counts = np.zeros(len(ids), dtype=np.int64)
    restartable.add_counts(train_counts, counts)
    table = pa.table(
        {
            Columns.ITEM: np.arange(len(ids), dtype=np.int32),
            Columns.ITEM_ID: restartable.to_table(pl.DataFrame({Columns.ITEM_ID: ids}))[Columns.ITEM_ID],
            Columns.TRAIN_COUNT: counts,
        }
    )
    return WrittenItems(write_parquet(output, "items.parquet", table), len(ids), hashing.item_space(ids))
