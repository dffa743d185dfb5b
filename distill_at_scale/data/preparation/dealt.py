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
from distill_at_scale.data.preparation.chunks import ChunkWriter, open_chunks
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import DamagedFileError

SUFFIX = ".chunks"
MERGED = "merged"
"""Folder of the merged files."""
MERGE_ROWS = 1 << 22
"""Rows of a range in memory at most until they are dealt into buckets."""

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
        change: Function of what leaves a source's file, with one level; None: none.
    """

    work: str
    folder: str
    exchange: Exchange
    n_buckets: int
    change: Change | None = None

    # -- merging --------------------------------------------------------------------------------------------------

    def merge(
        self,
        group: int,
        rows_of: Callable[[int], Iterator[pl.DataFrame]],
        packed: Callable[[pl.DataFrame], pl.DataFrame],
    ) -> PartRecord:
        """Deals the rows of a group of sources: a file for each range, with a chunk for each of its buckets.

        Args:
            group: Number of the group.
            rows_of: Reads the rows of a source, by its number.
            packed: Gives rows the form in which buckets read them.
        """

        def build() -> PartRecord:
            place = storage.join(self.work, MERGED, f"group-{group:05d}")
            sources = [
                self._deal_source(restartable.part(place, source, SUFFIX), rows_of(source))
                for source in self.exchange.groups[group]
            ]
            self._merge(group, sources, packed)
            storage.remove(place)
            return PartRecord()

        return restartable.once(self._group_record(group), PartRecord, build)

    def _deal_source(self, uri: str, frames: Iterator[pl.DataFrame]) -> str:
        with storage.open_output(uri) as file:
            writer = ChunkWriter(file)
            for rows in frames:
                writer.write(deal(rows, self.exchange.parts))
            writer.finish()
        return uri

    def _merge(self, group: int, sources: list[str], packed: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(open_chunks(uri, restartable.FIX)) for uri in sources]
            for part in range(self.exchange.parts):
                buckets = self.exchange.buckets_of(part, self.n_buckets)
                batches = (batch for one in readers for batch in one.read(part, part + 1, self.exchange.parts))
                with storage.open_output(self._range_file(part, group)) as file:
                    writer = ChunkWriter(file, compress=True)
                    for rows in _frames(batches):
                        writer.write(deal(packed(rows), self.n_buckets, buckets))
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
                    yield batch if self.change is None else self.change(batch, source)

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

    def _discard(self, part: int, damaged: int) -> None:
        """Has the next run make a damaged group again, and those whose files of the same range are gone."""
        for group in range(len(self.exchange.groups)):
            if group == damaged or not storage.exists(self._range_file(part, group)):
                storage.remove(self._group_record(group))

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
        if rows >= MERGE_ROWS:
            yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches(held)))
            held, rows = [], 0
    if held:
        yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches(held)))
