"""Last stage of prepare: numbers and splits a bucket's surviving rows and writes them as a shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import hashing, ragged, recorded, splits, storage
from distill_at_scale.data.columns import SPLITS, Columns, SplitRule
from distill_at_scale.data.dataset import SHARD_SCHEMA
from distill_at_scale.data.log_record import RestFile
from distill_at_scale.data.manifest import FIX
from distill_at_scale.data.preparation import quantiles, restartable
from distill_at_scale.data.preparation.buckets import read_columns, read_user_ids
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.kcore import Alive, alive_in_bucket
from distill_at_scale.data.preparation.parquet import write_parquet
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.preparation.rest import write_rest
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.data.shard_records import ShardRecord
from distill_at_scale.registry import SPLIT_RULES

FOLDER = "shards"
USERS = "users"


@dataclass(frozen=True)
class Numbering:
    """Numbering of the surviving items, common to all shards.

    Attributes:
        item: int32 [vocabulary], number of each surviving item.
        alive: bool [vocabulary], surviving item ids.
        filters: Whether items need more than one row. If not, items that do not survive have merely lost their users,
            and no row is lost because of them.
        item_hash: uint64 [vocabulary], for split rules that shuffle (None for others).
        given: int32 [vocabulary], numbers that items keep, also those that do not survive; −1: none. Others follow.
    """

    item: np.ndarray
    alive: np.ndarray
    filters: bool
    item_hash: np.ndarray | None
    given: np.ndarray | None = None

    @classmethod
    def of(
        cls, alive: np.ndarray, filters: bool, item_hash: np.ndarray | None, given: np.ndarray | None = None
    ) -> Numbering:
        """Numbers the surviving items in the order of their ids, those without a ``given`` number after these."""
        if given is None:
            return cls((np.cumsum(alive) - 1).astype(np.int32), alive, filters, item_hash)
        number, new = given.copy(), alive & (given < 0)
        number[new] = int(given.max(initial=-1)) + np.arange(1, int(new.sum()) + 1)
        return cls(number, alive, filters, item_hash, given)

    @property
    def numbered(self) -> np.ndarray:
        """Position in the vocabulary of each item number, int64 [items]."""
        if self.given is None:
            return np.flatnonzero(self.alive)
        chosen = np.flatnonzero(self.alive | (self.given >= 0))
        return chosen[np.argsort(self.item[chosen])]


@dataclass(frozen=True)
class SplitChoice:
    """Split rule with its parameters: a seed, and the two times (ms) of a rule that goes by them."""

    rule: SplitRule
    seed: int = 0
    validation_from: int = 0
    test_from: int = 0


@dataclass(frozen=True)
class ShardPart:
    """Users of a bucket that make a shard.

    Attributes:
        bucket: Number of the bucket.
        part: Number of the shard's files.
        first_user: Number of its first user.
        known: Shard of an earlier dataset whose users these are, also those without rows; None: all other users.
        others: Shards of the earlier dataset whose users belong to this bucket.
        earlier: Address of the earlier dataset.
    """

    bucket: int
    part: int
    first_user: int
    known: ShardRecord | None = None
    others: tuple[ShardRecord, ...] = ()
    earlier: str = ""


@dataclass(frozen=True)
class WrittenShard(PartRecord):
    """A shard that was written."""

    shard: ShardRecord | None
    """None if no user is left."""
    rest: RestFile | None
    """Rows of the bucket that no shard holds."""
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
    part: ShardPart,
    numbering: Numbering,
    item_ids: pl.Series,
    split: SplitChoice,
    min_user: int,
) -> WrittenShard:
    """Writes a shard and its users, and the train rows of each item to ``work``; the rest of a bucket, but once."""
    folder = storage.join(work, FOLDER)

    def build() -> WrittenShard:
        raw, alive = _survivors(work, part.bucket, numbering, min_user, SPLIT_RULES.find(split.rule).shortest)
        rest = None if part.known else write_rest(output, work, part.bucket, raw, alive, item_ids)
        lost = {} if part.known else alive.lost
        ids, rank = _users(work, part, alive)
        if not len(ids):
            return WrittenShard(shard=None, rest=rest, lost=lost, tied={})
        keep = alive.rows & (rank[raw[Columns.USER].to_numpy()] >= 0)
        record, tied = _write(output, folder, part, raw, keep, rank, ids, numbering, split)
        return WrittenShard(shard=record, rest=rest, lost=lost, tied=tied)

    return restartable.once(restartable.part(folder, part.part, ".json"), WrittenShard, build)


def count_new_users(work: str, part: ShardPart, numbering: Numbering, min_user: int, rule: SplitRule) -> int:
    """Number of surviving users of a bucket that no shard of the earlier dataset has."""
    _, alive = _survivors(work, part.bucket, numbering, min_user, SPLIT_RULES.find(rule).shortest)
    return len(_users(work, part, alive)[0])


def _users(work: str, part: ShardPart, alive: Alive) -> tuple[pl.Series, np.ndarray]:
    """The ids of a shard's users, in order, and the rank of each user of the bucket among them, −1 for others."""
    if part.known is not None:
        ids = read_known_users(part.earlier, part.known)
        if not len(alive.users):
            return ids, np.zeros(0, dtype=np.int64)
        ranks = pl.DataFrame({"id": ids, "rank": np.arange(len(ids))})
        found = pl.DataFrame({"id": read_user_ids(work, part.bucket)}).join(
            ranks, on="id", how="left", maintain_order="left"
        )
        return ids, found["rank"].fill_null(-1).to_numpy()
    chosen = alive.users
    if not chosen.any():
        return pl.Series(Columns.USER_ID, [], dtype=pl.Int64), np.full(len(chosen), -1)
    bucket_ids = read_user_ids(work, part.bucket)
    for other in part.others:
        chosen = chosen & ~bucket_ids.is_in(read_known_users(part.earlier, other).implode()).to_numpy()
    return bucket_ids.filter(pl.Series(chosen)), np.where(chosen, np.cumsum(chosen) - 1, -1)


def read_known_users(uri: str, shard: ShardRecord) -> pl.Series:
    """Ids of a shard's users in the order of their numbers."""
    table = recorded.read_parquet(uri, shard.users, FIX, [Columns.USER_ID], shard.n_users)
    return pl.DataFrame(pl.from_arrow(table))[Columns.USER_ID]


def _write(
    output: str,
    folder: str,
    part: ShardPart,
    raw: pa.Table,
    keep: np.ndarray,
    rank_of_user: np.ndarray,
    ids: pl.Series,
    numbering: Numbering,
    split: SplitChoice,
) -> tuple[ShardRecord, dict[str, int]]:
    rows = int(keep.sum())
    chosen = slice(None) if rows == len(keep) else np.flatnonzero(keep)

    def column(name: str) -> np.ndarray:
        return raw[name].to_numpy()[chosen]

    n_users, first_user = len(ids), part.first_user
    rank = rank_of_user[column(Columns.USER)]
    item = column(Columns.ITEM)
    # Rules know no users without rows, as those are that only keep their number.
    counts = np.bincount(rank, minlength=n_users)
    offsets = ragged.offsets(counts[counts > 0])
    rule: splits.Split = SPLIT_RULES.find(split.rule)
    code = rule.assign(_Rows(offsets, column, ids.filter(pl.Series(counts > 0)), item, numbering, split))
    tied = splits.tied(offsets, column(Columns.TIMESTAMP), code) if rule.by_order else {}
    number = numbering.item
    item = number[item]
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
    by_code = np.bincount(rank * len(SPLITS) + code, minlength=n_users * len(SPLITS)).reshape(n_users, len(SPLITS))
    per_split = {name: by_code[:, value] for name, value in SPLITS.items()}
    users = pa.table(
        {
            Columns.USER: np.arange(first_user, first_user + n_users, dtype=np.int64),
            Columns.USER_ID: restartable.to_table(pl.DataFrame({Columns.USER_ID: ids}))[Columns.USER_ID],
            **per_split,
        }
    )
    restartable.write_counts(
        restartable.part(folder, part.part, ".counts.arrow"),
        np.bincount(item[code == SPLITS["train"]], minlength=int(number.max()) + 1),
    )
    record = ShardRecord(
        data=write_parquet(output, restartable.part(FOLDER, part.part, ".parquet"), shard),
        users=write_parquet(output, restartable.part(USERS, part.part, ".parquet"), users),
        first_user=first_user,
        n_users=n_users,
        rows=rows,
        splits={name: int(counts.sum()) for name, counts in per_split.items()},
    )
    return record, tied


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


def write_items(output: str, item_ids: ItemIds, numbering: Numbering, train_counts: str) -> WrittenItems:
    """Writes ``items.parquet``."""
    ids = item_ids.ids.gather(numbering.numbered)
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
