"""First stage of prepare: reads and validates a fragment of the log and partitions it into buckets by user."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill_at_scale.data import hashing, ragged, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.chunks import ChunkWriter, read_chunks
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.readers import Fragment, LogSchema, read_fragment

FOLDER = "fragments"
QUARANTINE = "quarantine"
POSITION = 1_000_000
"""Nanoseconds between consecutive positions; a dataset's milliseconds then count positions."""
_SUFFIX = ".chunks"


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
    output: str, work: str, index: int, fragment: Fragment, schema: LogSchema, n_buckets: int, before: int = 0
) -> FragmentRecord:
    """Reads fragment ``index`` and writes its good rows by bucket, its item ids, and its bad rows.

    ``before`` fragments were read for an earlier dataset, whose files of bad rows come first.

    The rows are written as one file of chunks: ``n_buckets`` chunks per batch of the fragment (also empty ones), so
    that bucket b consists of the chunks b, n_buckets + b, 2 n_buckets + b …
    """
    folder = storage.join(work, FOLDER)
    return restartable.once(
        restartable.part(folder, index, ".json"),
        FragmentRecord,
        lambda: _partition(output, folder, index, fragment, schema, n_buckets, before),
    )


def _partition(
    output: str, folder: str, index: int, fragment: Fragment, schema: LogSchema, n_buckets: int, before: int
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
        file = stack.enter_context(storage.open_output(restartable.part(folder, index, _SUFFIX)))
        writer = ChunkWriter(file)
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
            item_ids.append(batch.good[Columns.ITEM_ID].unique())
            writer.write(_deal(kept, n_buckets))
        writer.finish()
    if item_ids:
        distinct = pl.concat(item_ids).unique().sort()
        restartable.write_arrow(
            restartable.part(folder, index, ".items.arrow"),
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


def _in_file_order(good: pl.DataFrame, first: int) -> pl.DataFrame:
    """Uses the rows' positions, starting at ``first``, as their times."""
    positions = pl.int_range(first, first + good.height, dtype=pl.Int64)
    return good.with_columns((positions * POSITION).alias(Columns.TIMESTAMP))


def _deal(good: pl.DataFrame, n_buckets: int) -> list[pa.RecordBatch]:
    """Partitions rows into one record batch per bucket, also for empty buckets."""
    table = restartable.to_table(good)
    if n_buckets == 1:
        ordered, bounds = table, np.array([0, table.num_rows])
    else:
        bucket = hashing.share(hashing.hash_ids(good[Columns.USER_ID]), n_buckets)
        # A stable sort of 16-bit keys is a radix sort: linear, and it preserves the order of rows.
        key = bucket.astype(np.uint16 if n_buckets <= 1 << 16 else np.uint32)
        order = np.argsort(key, kind="stable")
        ordered = table.take(pa.array(order))
        bounds = ragged.offsets(np.bincount(bucket, minlength=n_buckets))
    whole = ordered.combine_chunks().to_batches()
    batch = whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)
    return [batch.slice(int(bounds[b]), int(bounds[b + 1] - bounds[b])) for b in range(n_buckets)]


def merge_item_ids(sources: list[str], target: str) -> int:
    """Writes the sorted distinct item ids of several files to ``target``; returns their number."""
    distinct: pl.Series | None = None
    for source in sources:
        ids = pl.DataFrame(pl.from_arrow(restartable.read_arrow(source)))[Columns.ITEM_ID]
        distinct = ids if distinct is None else pl.concat([distinct, ids]).unique()
    merged = pl.Series(Columns.ITEM_ID, [], dtype=pl.Int64) if distinct is None else distinct.sort()
    restartable.write_arrow(target, restartable.to_table(pl.DataFrame({Columns.ITEM_ID: merged})))
    return len(merged)


def read_bucket(
    work: str, n_fragments: int, n_buckets: int, shard: int, n_shards: int, starts: Sequence[int] | None = None
) -> pl.DataFrame:
    """Reads the good rows of all fragments whose user is in ``shard``; buckets need not match shards.

    Args:
        work, n_fragments, n_buckets, shard, n_shards: Location of the files, and selection of their chunks.
        starts: Number of good rows before each fragment, if positions stand for times (:attr:`LogSchema.positions`).
    """
    first, last = shard * n_buckets // n_shards, -((-(shard + 1) * n_buckets) // n_shards)
    batches: list[pa.RecordBatch] = []
    for index in range(n_fragments):
        uri = restartable.part(storage.join(work, FOLDER), index, _SUFFIX)
        with restartable.discarding(uri):
            chunks = read_chunks(uri, restartable.FIX, first, last, n_buckets)
        batches += chunks if starts is None else [_moved(batch, starts[index]) for batch in chunks]
    batches = [batch for batch in batches if batch.num_rows]
    if not batches:
        return pl.DataFrame()
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches)))
    if n_buckets % n_shards:
        mine = hashing.share(hashing.hash_ids(frame[Columns.USER_ID]), n_shards) == shard
        frame = frame.filter(pl.Series(mine))
    return frame


def _moved(batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
    """Converts positions within a fragment to positions within the log."""
    at = batch.schema.get_field_index(Columns.TIMESTAMP)
    moved = pc.add(batch.column(at), pa.scalar(start * POSITION, pa.int64()))
    return batch.set_column(at, batch.schema.field(at), moved)
