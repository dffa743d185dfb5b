"""Second stage of prepare: all rows of a bucket's users, sorted and de-duplicated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.dealt import DealtRows
from distill_at_scale.data.preparation.earlier import EarlierRows, merge_rows, read_earlier
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.odd_ids import UserSummary, summarise_users
from distill_at_scale.data.preparation.packed import unpack
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.preparation.row_order import Keep
from distill_at_scale.data.preparation.sorted_rows import SortedRows, sort_rows
from distill_at_scale.errors import DasError

FOLDER = "buckets"
_BELOW = ".below.arrow"


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
    below: bool
    """Whether there is a file of rows below the minimum rating."""
    summary: UserSummary = field(default_factory=UserSummary)
    """What its users tell about all users of the log."""


def build_bucket(
    work: str,
    bucket: int,
    dealt: DealtRows,
    item_ids: ItemIds,
    keep: Keep,
    min_rating: float | None,
    seed: int,
    earlier: EarlierRows | None = None,
    on_rows: Callable[[SortedRows], None] | None = None,
) -> BucketRecord:
    """Collects bucket ``bucket`` from the ``dealt`` rows of the fragments and sorts it.

    The rows are sorted by (user id, timestamp, tie hash, rating), so the result does not depend on the input order,
    and ids do not decide which of a user's simultaneous rows comes last. Rows marked −1 in a split column are dropped
    first. Of several rows with the same user and item, ``keep`` selects ``last`` (by time, then the highest rating),
    ``first`` or ``all``. Rows below ``min_rating`` are dropped after that, so a user's latest rating counts. With
    ``earlier`` rows, of which only those of users with new rows are sorted again, the result is the same as if all had
    been in the fragments.

    Writes user (int32, rank in this bucket) · item (int32, rank in ``item_ids``) · rating · timestamp
    (nanoseconds) [· split], and in a second file the users' ids in the order of their ranks. ``on_rows`` is called with
    the rows if they were not there already.
    """
    folder, n_buckets = storage.join(work, FOLDER), dealt.n_buckets
    record_uri = restartable.part(folder, bucket, ".json")

    def build() -> BucketRecord:
        frame = dealt.read(bucket, lambda: storage.exists(record_uri))
        if dealt.exchange.merges and frame.height:
            # Ids are needed for rows below the minimum rating, which are written, and beside an earlier dataset's.
            frame = unpack(frame, None if earlier is None and min_rating is None else item_ids.ids)
        rows = frame.height
        if earlier is None:
            made = sort_rows(frame, item_ids, keep, min_rating, seed)
        else:
            frame = frame.drop(Columns.ITEM, strict=False)
            old = read_earlier(earlier, bucket, n_buckets)
            rows += old.rows
            made = merge_rows(old, frame, item_ids, keep, min_rating, seed)
        _write(folder, bucket, made)
        if on_rows is not None:
            on_rows(made)
        return BucketRecord(
            rows=rows,
            kept=len(made.columns.get(Columns.USER, ())),
            users=len(made.users),
            dropped=made.dropped,
            noticed=made.noticed,
            below=made.below is not None,
            summary=summarise_users(made.users, made.counts, n_buckets),
        )

    return restartable.once(record_uri, BucketRecord, build)


def _write(folder: str, bucket: int, made: SortedRows) -> None:
    if not len(made.users):
        return
    restartable.write_condensed(restartable.part(folder, bucket, ".arrow"), made.columns)
    restartable.write_arrow(
        restartable.part(folder, bucket, ".users.arrow"),
        restartable.to_table(pl.DataFrame({Columns.USER_ID: made.users})),
    )
    if made.below is not None:
        restartable.write_arrow(restartable.part(folder, bucket, _BELOW), restartable.to_table(made.below), True)


def read_columns(work: str, bucket: int, columns: list[str] | None = None) -> tuple[pa.Table, int]:
    """Reads a bucket's rows (all columns, or the named ones) and its number of users."""
    folder, record = storage.join(work, FOLDER), _read_record(work, bucket)
    if record.users == 0:
        none = pa.array([], pa.int32())
        return pa.table({Columns.USER: none, Columns.ITEM: none}), 0
    return restartable.read_condensed(restartable.part(folder, bucket, ".arrow"), columns), record.users


def read_user_ids(work: str, bucket: int) -> pl.Series:
    """Reads the ids of a bucket's users, in the order of their ranks."""
    table = restartable.read_arrow(restartable.part(storage.join(work, FOLDER), bucket, ".users.arrow"))
    return pl.DataFrame(pl.from_arrow(table))[Columns.USER_ID]


def read_below(work: str, bucket: int) -> pl.DataFrame | None:
    """Reads the rows below the minimum rating that still replace older ones; None if there are none."""
    if not _read_record(work, bucket).below:
        return None
    return pl.DataFrame(
        pl.from_arrow(restartable.read_arrow(restartable.part(storage.join(work, FOLDER), bucket, _BELOW)))
    )


def _read_record(work: str, bucket: int) -> BucketRecord:
    record_uri = restartable.part(storage.join(work, FOLDER), bucket, ".json")
    try:
        stored = recorded.read_json(record_uri, restartable.FIX)
    except FileNotFoundError:
        # Written by an earlier stage, and cleared since.
        raise DasError(
            f"{storage.redact(work)}: unfinished files of this run are gone; another run on the same output has ended, "
            "or cleared them. Look at the output before you run this again."
        ) from None
    with recorded.parsing(record_uri, restartable.FIX):
        return BucketRecord.from_json(stored)
