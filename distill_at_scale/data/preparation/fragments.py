"""First stage of prepare: reads and validates a fragment of the log and partitions it into buckets by user."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, merge, shown
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.dealt import DealtRows, part_files, source_files
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.preparation.row_order import distinct_ids
from distill_at_scale.data.readers import Fragment, LogSchema, read_fragment

_MOST_SHOWN = 60
FOLDER = "fragments"
QUARANTINE = "quarantine"
POSITION = 1_000_000
"""Nanoseconds between consecutive positions; a dataset's milliseconds then count positions."""


@dataclass(frozen=True)
class FragmentRecord(PartRecord):
    """A fragment that was read and partitioned."""

    rows: int
    """Number of rows, without those in ``left_out``."""
    good: int
    reasons: dict[str, int]
    """Number of bad rows by reason."""
    quarantine: str | None
    """Path of the file of bad rows."""
    has_items: bool
    """Whether there is a file of item ids."""
    times: tuple[int, ...]
    """First and last time in nanoseconds; empty without times."""
    left_out: dict[str, int]
    """Number of rows excluded by --where and --event."""
    seen: tuple[tuple[str, str], ...]
    """(column, value) pairs of the requested values that occur."""
    noticed: tuple[Notice, ...]


def partition(
    output: str, work: str, index: int, fragment: Fragment, schema: LogSchema, exchange: Exchange, before: int = 0
) -> FragmentRecord:
    """Reads fragment ``index`` and writes its good rows by bucket, its item ids, and its bad rows.

    ``before`` fragments were read for an earlier dataset, whose files of bad rows come first.

    The rows are written as a file of chunks for each slab of ``exchange``: one chunk per part and batch of the fragment
    (also empty ones), so that part p of n consists of the chunks p, n + p, 2 n + p … If ``exchange`` merges, they are
    not written, but read again by :func:`good_rows`.
    """
    folder = storage.join(work, FOLDER)
    return restartable.once(
        restartable.part(folder, index, ".json"),
        FragmentRecord,
        lambda: _partition(output, folder, index, fragment, schema, exchange, before),
    )


def _partition(
    output: str, folder: str, index: int, fragment: Fragment, schema: LogSchema, exchange: Exchange, before: int
) -> FragmentRecord:
    rows = good = 0
    left_out: Counter[str] = Counter()
    values: set[tuple[str, str]] = set()
    reasons: dict[str, int] = {}
    noticed: list[Notice] = []
    times: list[int] = []
    item_ids: list[pl.Series] = []
    quarantine = restartable.part(QUARANTINE, before + index, ".parquet")
    with contextlib.ExitStack() as stack:
        write: Callable[[pl.DataFrame], None] | None = None
        if not exchange.merges:
            write = stack.enter_context(part_files(source_files(folder, index, exchange), exchange))
        bad_writer: pq.ParquetWriter | None = None
        for batch in read_fragment(fragment, schema):
            rows += batch.rows
            left_out.update(batch.left_out)
            values |= batch.seen
            kept = _in_file_order(batch.good, good) if schema.positions else batch.good
            good += kept.height
            noticed = merge((noticed, batch.noticed))
            for reason, count in batch.bad.group_by("reason").len().iter_rows():
                reasons[reason] = reasons.get(reason, 0) + count
            if batch.bad.height:
                table = restartable.to_table(batch.bad)
                if bad_writer is None:
                    bad_file = stack.enter_context(storage.open_output(storage.join(output, quarantine)))
                    bad_writer = stack.enter_context(pq.ParquetWriter(bad_file, table.schema, compression="zstd"))
                bad_writer.write_table(table)
            if Columns.TIMESTAMP in batch.good.columns and batch.good.height:
                seen = batch.good[Columns.TIMESTAMP].to_numpy()
                times = [min([*times, int(seen.min())]), max([*times, int(seen.max())])]
            item_ids.append(distinct_ids(batch.good[Columns.ITEM_ID]))
            if write is not None:
                write(kept)
    if item_ids:
        distinct = distinct_ids(pl.concat(item_ids)).sort()
        restartable.write_arrow(
            items_of(folder, index),
            restartable.to_table(pl.DataFrame({Columns.ITEM_ID: distinct})),
        )
    return FragmentRecord(
        rows=rows,
        good=good,
        reasons=dict(sorted(reasons.items())),
        quarantine=quarantine if reasons else None,
        has_items=bool(item_ids),
        times=tuple(times),
        left_out=dict(sorted(left_out.items())),
        seen=tuple(sorted(values)),
        noticed=tuple(noticed),
    )


def first_bad(output: str, quarantine: str, reason: str) -> str:
    """Describes the first bad row of a reason: its value, or its line, and its place."""
    with storage.open_input(storage.join(output, quarantine)) as file:
        for batch in pq.ParquetFile(file).iter_batches():
            rows = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch]))).filter(pl.col("reason") == reason)
            if rows.height:
                row = rows.row(0, named=True)
                column = reason.split(" ", 1)[0]
                value = row.get(column) if column in Columns.LOG else row["line"]
                what = (
                    "" if value is None else f"{column} " * (column in Columns.LOG) + shown(value[:_MOST_SHOWN]) + ", "
                )
                return f"{what}row {row['row']} of {row['source']}" if row["row"] else f"{what}in {row['source']}"
    raise ValueError(f"no row is bad since {reason}")


def _in_file_order(good: pl.DataFrame, first: int) -> pl.DataFrame:
    """Uses the rows' positions, starting at ``first``, as their times."""
    positions = pl.int_range(first, first + good.height, dtype=pl.Int64)
    return good.with_columns((positions * POSITION).alias(Columns.TIMESTAMP))


def good_rows(fragment: Fragment, schema: LogSchema, before: int = 0) -> Iterator[pl.DataFrame]:
    """Yields the good rows of a fragment.

    Args:
        fragment, schema: As in :func:`partition`.
        before: Number of good rows before the fragment, if positions stand for times.
    """
    for batch in read_fragment(fragment, schema):
        kept = _in_file_order(batch.good, before) if schema.positions else batch.good
        before += kept.height
        if kept.height:
            yield kept


def items_of(folder: str, index: int) -> str:
    """Address of a fragment's item ids."""
    return restartable.read_once(folder, index, ".items.arrow")


def merge_item_ids(sources: list[str], target: str) -> int:
    """Writes the sorted distinct item ids of several files to ``target``; returns their number."""
    distinct: pl.Series | None = None
    for source in sources:
        ids = pl.DataFrame(pl.from_arrow(restartable.read_arrow(source)))[Columns.ITEM_ID]
        distinct = ids if distinct is None else distinct_ids(pl.concat([distinct, ids]))
    merged = pl.Series(Columns.ITEM_ID, [], dtype=pl.Int64) if distinct is None else distinct.sort()
    restartable.write_arrow(target, restartable.to_table(pl.DataFrame({Columns.ITEM_ID: merged})))
    return len(merged)


def dealt_rows(work: str, exchange: Exchange, n_buckets: int, starts: Sequence[int] | None = None) -> DealtRows:
    """The good rows of all fragments, as buckets read them.

    Args:
        work, exchange, n_buckets: As in :class:`DealtRows`.
        starts: Number of good rows before each fragment, if positions stand for times (:attr:`LogSchema.positions`).
    """
    return DealtRows(work, FOLDER, exchange, n_buckets, None if starts is None else functools.partial(_moved, starts))


def _moved(starts: Sequence[int], batch: pa.RecordBatch, fragment: int) -> pa.RecordBatch:
    """Converts positions within a fragment to positions within the log."""
    at = batch.schema.get_field_index(Columns.TIMESTAMP)
    moved = pc.add(batch.column(at), pa.scalar(starts[fragment] * POSITION, pa.int64()))
    return batch.set_column(at, batch.schema.field(at), moved)
