"""Second stage of prepare: all rows of a bucket's users, sorted and de-duplicated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.fragments import read_bucket
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.preparation.row_order import Keep, in_time_order, one_of_each, ranks

FOLDER = "buckets"


@dataclass(frozen=True)
class BucketRecord(PartRecord):
    """A bucket that was sorted and de-duplicated."""

    rows: int
    """Number of input rows."""
    kept: int
    users: int
    dropped: dict[str, int]
    """Number of dropped rows by filter: duplicates, min_rating, split (marked −1)."""
    noticed: tuple[Notice, ...]


def build_bucket(
    work: str,
    bucket: int,
    n_buckets: int,
    n_dealt: int,
    n_fragments: int,
    item_ids: pl.Series,
    keep: Keep,
    min_rating: float | None,
    seed: int,
    starts: Sequence[int] | None = None,
) -> BucketRecord:
    """Collects bucket ``bucket`` of ``n_buckets`` from the fragments (partitioned into ``n_dealt``) and sorts it.

    The rows are sorted by (user id, timestamp, tie hash, rating), so the result does not depend on the input order,
    and ids do not decide which of a user's simultaneous rows comes last. Rows marked −1 in a split column are dropped
    first. Of several rows with the same user and item, ``keep`` selects ``last`` (by time, then the highest rating),
    ``first`` or ``all``. Rows below ``min_rating`` are dropped after that, so a user's latest rating counts.

    Writes user (int32, rank in this bucket) · item (int32, rank in ``item_ids``) · rating · timestamp
    (nanoseconds) [· split], and in a second file the users' ids in the order of their ranks.
    """
    folder = storage.join(work, FOLDER)

    def build() -> BucketRecord:
        frame = read_bucket(work, n_fragments, n_dealt, bucket, n_buckets, starts)
        return _order(folder, bucket, frame, item_ids, keep, min_rating, seed)

    return restartable.once(restartable.part(folder, bucket, ".json"), BucketRecord, build)


def _order(
    folder: str,
    bucket: int,
    frame: pl.DataFrame,
    item_ids: pl.Series,
    keep: Keep,
    min_rating: float | None,
    seed: int,
) -> BucketRecord:
    n_read = frame.height
    # Rows outside every split are not part of the log: they must not replace duplicates that are.
    if Columns.SPLIT in frame:
        frame = frame.filter(pl.col(Columns.SPLIT) >= 0)
    rows = frame.height
    dropped = {"split": n_read - rows, "duplicates": 0, "min_rating": 0}
    if rows == 0:
        return BucketRecord(rows=n_read, kept=0, users=0, dropped=dropped, noticed=())
    users = frame[Columns.USER_ID].unique().sort()
    columns = {
        Columns.USER: ranks(frame[Columns.USER_ID], users),
        Columns.ITEM: ranks(frame[Columns.ITEM_ID], item_ids),
        **{c: frame[c].to_numpy() for c in (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT) if c in frame},
    }
    order = in_time_order(columns, users, item_ids, seed)
    columns = {name: values[order] for name, values in columns.items()}

    stay = np.ones(rows, dtype=bool)
    noticed: list[Notice] = []
    if keep != "all":
        stay &= one_of_each(columns[Columns.USER], columns[Columns.ITEM], keep)
        dropped["duplicates"] = rows - int(stay.sum())
        if Columns.SPLIT in columns and dropped["duplicates"]:
            noticed = _notices_of_splits(columns, stay, users, item_ids, keep)
    if min_rating is not None:
        stay &= columns[Columns.RATING] >= min_rating
        # A filter counts only the rows that the previous filters left.
        dropped["min_rating"] = rows - int(stay.sum()) - dropped["duplicates"]

    names = (Columns.USER, Columns.ITEM, Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT)
    table = pa.table({name: columns[name][stay] for name in names if name in columns})
    restartable.write_arrow(restartable.part(folder, bucket, ".arrow"), table)
    restartable.write_arrow(
        restartable.part(folder, bucket, ".users.arrow"), restartable.to_table(pl.DataFrame({Columns.USER_ID: users}))
    )
    return BucketRecord(rows=n_read, kept=int(stay.sum()), users=len(users), dropped=dropped, noticed=tuple(noticed))


def _notices_of_splits(
    columns: dict[str, np.ndarray], stay: np.ndarray, users: pl.Series, item_ids: pl.Series, keep: Keep
) -> list[Notice]:
    """Reports dropped duplicates whose kept row is in another split, such as a train and a test row of one item."""
    user, item, split = (columns[name] for name in (Columns.USER, Columns.ITEM, Columns.SPLIT))
    pair = user.astype(np.int64) << 32 | item
    kept = np.flatnonzero(stay)
    kept = kept[np.argsort(pair[kept])]
    gone = np.flatnonzero(~stay)
    other = gone[split[gone] != split[kept[np.searchsorted(pair[kept], pair[gone])]]]
    if not len(other):
        return []
    example = f"user {users[int(user[other[0]])]}, item {item_ids[int(item[other[0]])]}"
    what = (
        f"dropped for the {keep} row of the same user and item, which is in another split; --duplicates all keeps both"
    )
    return [Notice(what=what, count=len(other), example=example)]


def read_columns(work: str, bucket: int, columns: list[str] | None = None) -> tuple[pa.Table, int]:
    """Reads a bucket's rows (all columns, or the named ones) and its number of users."""
    folder = storage.join(work, FOLDER)
    record_uri = restartable.part(folder, bucket, ".json")
    stored = recorded.read_json(record_uri, restartable.FIX)
    with recorded.parsing(record_uri, restartable.FIX):
        record = BucketRecord.from_json(stored)
    if record.users == 0:
        none = pa.array([], pa.int32())
        return pa.table({Columns.USER: none, Columns.ITEM: none}), 0
    return restartable.read_arrow(restartable.part(folder, bucket, ".arrow"), columns), record.users


def read_user_ids(work: str, bucket: int) -> pl.Series:
    """Reads the ids of a bucket's users, in the order of their ranks."""
    table = restartable.read_arrow(restartable.part(storage.join(work, FOLDER), bucket, ".users.arrow"))
    return pl.DataFrame(pl.from_arrow(table))[Columns.USER_ID]
