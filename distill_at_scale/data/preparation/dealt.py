"""Rows dealt by a hash of their user, and where a bucket finds its own: in the sources' files, or in merged ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import hashing, ragged, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.chunks import ChunkReader, ChunkWriter, open_chunks
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import DamagedFileError

SUFFIX = ".chunks"
MERGED = "merged"
"""Folder of the merged files."""
# Rows in memory until they are dealt into buckets.
_MERGE_ROWS = 1 << 22

Change = Callable[[pa.RecordBatch, int], pa.RecordBatch]
"""What is done to the rows of a source, by its number, when they leave its file."""


def deal(rows: pl.DataFrame, n: int, parts: range | None = None) -> list[pa.RecordBatch]:
    """Divides rows by user into one record batch per part of ``n``, or of those given, also for empty parts."""
    parts = range(n) if parts is None else parts
    table = restartable.to_table(rows)
    if len(parts) == 1:
        ordered, bounds = table, np.array([0, table.num_rows])
    else:
        part = hashing.share(hashing.hash_ids(rows[Columns.USER_ID]), n) - parts.start
        # A stable sort of 16-bit keys is a radix sort: linear, and it preserves the order of rows.
        key = part.astype(np.uint16 if len(parts) <= 1 << 16 else np.uint32)
        ordered = table.take(pa.array(np.argsort(key, kind="stable")))
        bounds = ragged.offsets(np.bincount(part, minlength=len(parts)))
    whole = ordered.combine_chunks().to_batches()
    batch = whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)
    return [batch.slice(int(bounds[k]), int(bounds[k + 1] - bounds[k])) for k in range(len(parts))]


@dataclass(frozen=True)
class DealtRows:
    """The rows of all sources, as buckets read them.

    Attributes:
        work: Folder of the stages.
        folder: Name of the folder of the sources' files in it.
        exchange: Plan of the exchange.
        n_buckets: Number of buckets.
        change: Function of what leaves a source's file; None: nothing.
    """

    work: str
    folder: str
    exchange: Exchange
    n_buckets: int
    change: Change | None = None

    # -- merging --------------------------------------------------------------------------------------------------

    def merge(self, group: int) -> PartRecord:
        """Merges a group of sources: a file for each range, with a chunk for each of its buckets; removes the sources'
        files, which nobody else reads.

        Raises:
            DamagedFileError: A source's file is missing or altered; the next run makes it again.
        """
        members = self.exchange.groups[group]

        def build() -> PartRecord:
            try:
                self._merge(group, members)
            except DamagedFileError:
                # Those of a group that had been merged before are all gone.
                for source in members:
                    if not storage.exists(self._source(source)):
                        restartable.discard(self._source(source))
                raise
            return PartRecord()

        record = restartable.once(self._group_record(group), PartRecord, build)
        for source in members:
            storage.remove(self._source(source))
        return record

    def _merge(self, group: int, members: range) -> None:
        with contextlib.ExitStack() as stack:
            readers: list[ChunkReader] = []
            for source in members:
                with restartable.discarding(self._source(source)):
                    readers.append(stack.enter_context(open_chunks(self._source(source), restartable.FIX)))

            def rows_of(part: int) -> Iterator[pa.RecordBatch]:
                for source, reader in zip(members, readers):
                    with restartable.discarding(self._source(source)):
                        batches = reader.read(part, part + 1, self.exchange.parts)
                    yield from (self._changed(batch, source) for batch in batches)

            for part in range(self.exchange.parts):
                buckets = self.exchange.buckets_of(part, self.n_buckets)
                with storage.open_output(self._range_file(part, group)) as file:
                    writer = ChunkWriter(file, compress=True)
                    for rows in _frames(rows_of(part)):
                        writer.write(deal(rows, self.n_buckets, buckets))
                    writer.finish()

    def remove(self, part: int) -> None:
        """Removes the merged files of a range, whose buckets are all sorted."""
        storage.remove(self._range(part))

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, bucket: int, is_done: Callable[[], bool] = lambda: False) -> pl.DataFrame:
        """Reads the rows of a bucket.

        Args:
            bucket: Number of the bucket.
            is_done: Whether another task has read it meanwhile, so that files may be gone for good.

        Raises:
            DamagedFileError: A file is missing or altered; the next run makes it again.
        """
        batches = list(self._merged(bucket, is_done) if self.exchange.merges else self._single(bucket))
        batches = [batch for batch in batches if batch.num_rows]
        if not batches:
            return pl.DataFrame()
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches)))
        if not self.exchange.merges and self.exchange.parts % self.n_buckets:
            mine = hashing.share(hashing.hash_ids(frame[Columns.USER_ID]), self.n_buckets) == bucket
            frame = frame.filter(pl.Series(mine))
        return frame

    def _single(self, bucket: int) -> Iterator[pa.RecordBatch]:
        parts = self.exchange.parts_of(bucket, self.n_buckets)
        for source in range(self.exchange.sources):
            uri = self._source(source)
            with restartable.discarding(uri), open_chunks(uri, restartable.FIX) as reader:
                for batch in reader.read(parts.start, parts.stop, self.exchange.parts):
                    yield self._changed(batch, source)

    def _merged(self, bucket: int, is_done: Callable[[], bool]) -> Iterator[pa.RecordBatch]:
        for part in self.exchange.parts_of(bucket, self.n_buckets):
            buckets = self.exchange.buckets_of(part, self.n_buckets)
            at = bucket - buckets.start
            for group in range(len(self.exchange.groups)):
                try:
                    with open_chunks(self._range_file(part, group), restartable.FIX) as reader:
                        yield from reader.read(at, at + 1, len(buckets))
                except DamagedFileError:
                    if not is_done():
                        self._discard(part, group)
                    raise

    def _changed(self, batch: pa.RecordBatch, source: int) -> pa.RecordBatch:
        return batch if self.change is None else self.change(batch, source)

    def _discard(self, part: int, damaged: int) -> None:
        """Has the next run make a damaged group again, and those whose files of the same range are gone: from the log,
        for what they were merged from is gone as well."""
        for group, members in enumerate(self.exchange.groups):
            if group == damaged or not storage.exists(self._range_file(part, group)):
                storage.remove(self._group_record(group))
                for source in members:
                    restartable.discard(self._source(source))

    # -- addresses ------------------------------------------------------------------------------------------------

    def _source(self, source: int) -> str:
        return restartable.part(storage.join(self.work, self.folder), source, SUFFIX)

    def _group_record(self, group: int) -> str:
        return restartable.part(storage.join(self.work, MERGED), group, ".json")

    def _range(self, part: int) -> str:
        return storage.join(self.work, MERGED, f"range-{part:05d}")

    def _range_file(self, part: int, group: int) -> str:
        return restartable.part(self._range(part), group, SUFFIX)


def _frames(batches: Iterator[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """Joins batches into frames of some million rows."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            rows += batch.num_rows
        if rows >= _MERGE_ROWS:
            yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches(held)))
            held, rows = [], 0
    if held:
        yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches(held)))
