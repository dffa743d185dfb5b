"""First stage of prepare: reads and validates fragments of the log and deals their rows into buckets by user."""

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
# Batches whose distinct item ids are held, at most, until those that several have are dropped.
_IDS_AT_ONCE = 8
# Item ids of several files that are held, at most, until those that several have are dropped.
_IDS_MERGED_AT_ONCE = 1 << 23
FOLDER = "fragments"
QUARANTINE = "quarantine"
POSITION = 1_000_000
"""Nanoseconds between consecutive positions; a dataset's milliseconds then count positions."""


@dataclass(frozen=True)
class SourceRecord(PartRecord):
    """One or several fragments that were read and dealt."""

    rows: int
    """Number of rows, without those in ``left_out``."""
    good: int
    reasons: dict[str, int]
    """Number of bad rows by reason."""
    quarantine: tuple[str, ...]
    """Paths of the files of bad rows, one for each fragment that has any."""
    has_items: bool
    """Whether there is a file of item ids."""
    times: tuple[int, ...]
    """First and last time in nanoseconds; empty without times."""
    left_out: dict[str, int]
    """Number of rows excluded by --where and --event."""
    seen: tuple[tuple[str, str], ...]
    """(column, value) pairs of the requested values that occur."""
    noticed: tuple[Notice, ...]


@dataclass(frozen=True)
class Source:
    """Fragments that a task reads.

    Attributes:
        index: Number of the source.
        fragments: Its fragments, in the order of the log.
        before: Number of fragments before them, of an earlier dataset as well: files of bad rows are named by fragment.
    """

    index: int
    fragments: Sequence[Fragment]
    before: int


def partition(output: str, work: str, source: Source, schema: LogSchema, exchange: Exchange) -> SourceRecord:
    """Reads a source and writes its good rows by bucket, its item ids, and its bad rows.

    The rows are written as a file of chunks for each slab of ``exchange``: one chunk per part (also empty ones) and
    lot of rows, so that part p of n consists of the chunks p, n + p, 2 n + p … If ``exchange`` merges, they are not
    written, but read again by :func:`good_rows`.
    """
    folder = storage.join(work, FOLDER)
    return restartable.once(
        restartable.part(folder, source.index, ".json"),
        SourceRecord,
        lambda: _partition(output, folder, source, schema, exchange),
    )


def _partition(output: str, folder: str, source: Source, schema: LogSchema, exchange: Exchange) -> SourceRecord:
    with contextlib.ExitStack() as stack:
        write: Callable[[pl.DataFrame], None] | None = None
        if not exchange.merges:
            write = stack.enter_context(part_files(source_files(folder, source.index, exchange), exchange))
        found = _Found(output, schema, write)
        for k, fragment in enumerate(source.fragments):
            found.read(fragment, restartable.part(QUARANTINE, source.before + k, ".parquet"))
    if found.item_ids:
        distinct = found.distinct_items().sort()
        items = restartable.to_table(pl.DataFrame({Columns.ITEM_ID: distinct}))
        restartable.write_arrow(items_of(folder, source.index), items)
    return found.record()


class _Found:
    """What the fragments of a source have been found to hold."""

    def __init__(self, output: str, schema: LogSchema, write: Callable[[pl.DataFrame], None] | None) -> None:
        self._output, self._schema, self._write = output, schema, write
        self.item_ids: list[pl.Series] = []
        self._rows = self._good = 0
        self._left_out: Counter[str] = Counter()
        self._values: set[tuple[str, str]] = set()
        self._reasons: Counter[str] = Counter()
        self._noticed: list[Notice] = []
        self._times: list[int] = []
        self._quarantine: list[str] = []

    def read(self, fragment: Fragment, quarantine: str) -> None:
        """Reads a fragment; its bad rows go to the file ``quarantine`` of the output."""
        with contextlib.ExitStack() as stack:
            bad_writer: pq.ParquetWriter | None = None
            for batch in read_fragment(fragment, self._schema):
                self._rows += batch.rows
                self._left_out.update(batch.left_out)
                self._values |= batch.seen
                kept = _in_file_order(batch.good, self._good) if self._schema.positions else batch.good
                self._good += kept.height
                self._noticed = merge((self._noticed, batch.noticed))
                for reason, count in batch.bad.group_by("reason").len().iter_rows():
                    self._reasons[reason] += count
                if batch.bad.height:
                    table = restartable.to_table(batch.bad)
                    if bad_writer is None:
                        self._quarantine.append(quarantine)
                        file = stack.enter_context(storage.open_output(storage.join(self._output, quarantine)))
                        bad_writer = stack.enter_context(pq.ParquetWriter(file, table.schema, compression="zstd"))
                    bad_writer.write_table(table)
                if Columns.TIMESTAMP in batch.good.columns and batch.good.height:
                    seen = batch.good[Columns.TIMESTAMP].to_numpy()
                    self._times = [min([*self._times, int(seen.min())]), max([*self._times, int(seen.max())])]
                self._hold(distinct_ids(batch.good[Columns.ITEM_ID]))
                if self._write is not None:
                    self._write(kept)

    def _hold(self, ids: pl.Series) -> None:
        self.item_ids.append(ids)
        if len(self.item_ids) == _IDS_AT_ONCE:
            self.item_ids = [distinct_ids(pl.concat(self.item_ids))]

    def distinct_items(self) -> pl.Series:
        return self.item_ids[0] if len(self.item_ids) == 1 else distinct_ids(pl.concat(self.item_ids))

    def record(self) -> SourceRecord:
        return SourceRecord(
            rows=self._rows,
            good=self._good,
            reasons=dict(sorted(self._reasons.items())),
            quarantine=tuple(self._quarantine),
            has_items=bool(self.item_ids),
            times=tuple(self._times),
            left_out=dict(sorted(self._left_out.items())),
            seen=tuple(sorted(self._values)),
            noticed=tuple(self._noticed),
        )


def first_bad(output: str, quarantine: Sequence[str], reason: str) -> str:
    """Describes the first bad row of a reason: its value, or its line, and its place.

    Args:
        output: Folder of the dataset.
        quarantine: Files of bad rows in it, of which one or more have the reason.
        reason: The reason.
    """
    for path in quarantine:
        if found := _first_bad(storage.join(output, path), reason):
            return found
    raise ValueError(f"no row is bad since {reason}")


def _first_bad(uri: str, reason: str) -> str | None:
    with storage.open_input(uri) as file:
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
    return None


def _in_file_order(good: pl.DataFrame, first: int) -> pl.DataFrame:
    """Uses the rows' positions, starting at ``first``, as their times."""
    positions = pl.int_range(first, first + good.height, dtype=pl.Int64)
    return good.with_columns((positions * POSITION).alias(Columns.TIMESTAMP))


def good_rows(fragment: Fragment, schema: LogSchema, before: int = 0) -> Iterator[pl.DataFrame]:
    """Yields the good rows of a fragment.

    Args:
        fragment: The fragment.
        schema: How the log is read.
        before: Number of good rows before the fragment, if positions stand for times.
    """
    for batch in read_fragment(fragment, schema):
        kept = _in_file_order(batch.good, before) if schema.positions else batch.good
        before += kept.height
        if kept.height:
            yield kept


def items_of(folder: str, index: int) -> str:
    """Address of a source's item ids."""
    return restartable.read_once(folder, index, ".items.arrow")


def merge_item_ids(sources: list[str], target: str) -> int:
    """Writes the sorted distinct item ids of several files to ``target``; returns their number."""
    held: list[pl.Series] = []
    for source in sources:
        held.append(pl.DataFrame(pl.from_arrow(restartable.read_arrow(source)))[Columns.ITEM_ID])
        if sum(map(len, held)) > _IDS_MERGED_AT_ONCE:
            held = [distinct_ids(pl.concat(held))]
    merged = distinct_ids(pl.concat(held)).sort() if held else pl.Series(Columns.ITEM_ID, [], dtype=pl.Int64)
    restartable.write_arrow(target, restartable.to_table(pl.DataFrame({Columns.ITEM_ID: merged})))
    return len(merged)


def dealt_rows(work: str, exchange: Exchange, n_buckets: int, starts: Sequence[int] | None = None) -> DealtRows:
    """The good rows of all fragments, as buckets read them.

    Args:
        work, exchange, n_buckets: As in :class:`DealtRows`.
        starts: Number of good rows before each source, if positions stand for times (:attr:`LogSchema.positions`).
    """
    return DealtRows(work, FOLDER, exchange, n_buckets, None if starts is None else functools.partial(_moved, starts))


def _moved(starts: Sequence[int], batch: pa.RecordBatch, source: int) -> pa.RecordBatch:
    """Converts positions within a source to positions within the log."""
    at = batch.schema.get_field_index(Columns.TIMESTAMP)
    moved = pc.add(batch.column(at), pa.scalar(starts[source] * POSITION, pa.int64()))
    return batch.set_column(at, batch.schema.field(at), moved)
