"""Rows dealt by a hash of their user, and where a bucket finds its own: in the sources' files, or in merged ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import hashing, ragged, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.ordering import sorted_integers
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.chunks import ChunkWriter, open_chunks
from distill_at_scale.data.preparation.condensed import Condenser, restored
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import DamagedFileError

SUFFIX = ".chunks"
MERGED = "merged"
"""Folder of the merged files."""
MERGE_ROWS = 1 << 22
"""Rows of a range in memory at most until they are dealt into buckets."""
HELD_ROWS = 1 << 24
"""Rows of a group that are held in memory, at most, until those of a bucket are together; a larger group has files."""
HELD_BYTES = 1 << 28
"""Bytes of a source's rows that are held, at most, until those of a part are together; then they are written."""

Change = Callable[[pa.RecordBatch, int], pa.RecordBatch]
"""What is done to the rows of a source, by its number, when they leave its file."""


def deal(rows: pl.DataFrame, n: int, parts: range | None = None) -> list[pa.RecordBatch]:
    """Divides rows by user into one record batch per part of ``n``, or of those given, also for empty parts."""
    parts = range(n) if parts is None else parts
    table = restartable.to_table(rows)
    if len(parts) == 1:
        ordered, bounds = table, np.array([0, table.num_rows])
    else:
        hashes = hashing.hash_ids(rows[Columns.USER_ID])
        part = hashing.share(hashes, n) - parts.start
        ordered = table.take(pa.array(_by_user(part, hashes, len(parts))))
        bounds = ragged.offsets(np.bincount(part, minlength=len(parts)))
    whole = ordered.combine_chunks().to_batches()
    batch = whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)
    return [batch.slice(int(bounds[k]), int(bounds[k + 1] - bounds[k])) for k in range(len(parts))]


def _by_user(part: np.ndarray, hashes: np.ndarray, parts: int) -> np.ndarray:
    """int64 [rows]: the order by part, and in it by bits of the hash of the user, whose id is then written once."""
    position, widest = len(part).bit_length(), (parts - 1).bit_length()
    bits = 64 - position - widest
    # Sorting words is several times faster than sorting their positions; these break ties in the rows' order.
    words = part.astype(np.uint64) << np.uint64(64 - widest) if widest else np.zeros(len(part), dtype=np.uint64)
    words |= (hashes & np.uint64((1 << bits) - 1)) << np.uint64(position)
    words |= np.arange(len(part), dtype=np.uint64)
    return (sorted_integers(words) & np.uint64((1 << position) - 1)).astype(np.int64)


@contextlib.contextmanager
def part_files(uris: Sequence[str], exchange: Exchange) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Opens a source's files, one for each slab of parts, for a function that deals rows into them."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(storage.open_output(uri)) for uri in uris]
        condenser = Condenser()
        writers = [(slab, _RowWriter(file, condenser)) for slab, file in zip(exchange.slabs, files)]
        held = _Held(exchange.parts)

        def write(rows: pl.DataFrame) -> None:
            held.add(rows)
            if held.bytes > HELD_BYTES:
                flush()

        def flush() -> None:
            if batches := held.take():
                for slab, writer in writers:
                    writer.write(batches[slab.start : slab.stop])

        yield write
        flush()
        for _, writer in writers:
            writer.finish()


class _Held:
    """Rows in memory, by part."""

    def __init__(self, parts: int) -> None:
        self.bytes = 0
        self._parts: list[list[pa.RecordBatch]] = [[] for _ in range(parts)]

    def add(self, rows: pl.DataFrame) -> None:
        """Deals rows into the parts."""
        self.bytes += int(rows.estimated_size())
        for held, batch in zip(self._parts, deal(rows, len(self._parts))):
            # The first one has the columns, for parts without rows.
            if batch.num_rows or not held:
                held.append(batch)

    def take(self) -> list[pa.RecordBatch]:
        """Returns the rows of each part, and holds them no longer; nothing before the first rows."""
        found = []
        for k, held in enumerate(self._parts):
            if held:
                found.append(_joined(held))
            self._parts[k] = []
        self.bytes = 0
        return found


class _RowWriter:
    """Appends chunks of condensed rows to a file."""

    def __init__(self, file: IO[bytes], condenser: Condenser) -> None:
        self._file, self._condenser = file, condenser
        self._chunks: ChunkWriter | None = None

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        if self._chunks is None:
            strings = any(_is_text(kind) for kind in batches[0].schema.types)
            self._chunks = ChunkWriter(self._file, compress=strings)
        self._chunks.write(self._condenser.condense(batch) for batch in batches)

    def finish(self) -> None:
        (self._chunks or ChunkWriter(self._file)).finish()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


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
        n_rows: int | None = None,
    ) -> PartRecord:
        """Deals the rows of a group of sources: a file for each range, with a chunk for each of its buckets.

        Args:
            group: Number of the group.
            rows_of: Reads the rows of a source, by its number.
            packed: Gives rows the form in which buckets read them.
            n_rows: Number of the group's rows; None: unknown.
        """

        def build() -> PartRecord:
            few = n_rows is not None and n_rows <= HELD_ROWS
            merge = self._merge_held if few else self._merge_files
            merge(group, lambda source: map(packed, rows_of(source)))
            return PartRecord()

        return restartable.once(self._group_record(group), PartRecord, build)

    def _merge_held(self, group: int, rows_of: Callable[[int], Iterator[pl.DataFrame]]) -> None:
        held = _Held(self.n_buckets)
        for source in self.exchange.groups[group]:
            for rows in rows_of(source):
                held.add(rows)
        batches, condenser = held.take(), Condenser()
        for part in range(self.exchange.parts):
            with storage.open_output(self._range_file(part, group)) as file:
                writer = _RowWriter(file, condenser)
                for bucket in self.exchange.buckets_of(part, self.n_buckets) if batches else ():
                    writer.write([batches[bucket]])
                    # Another range has the same bucket where their numbers do not divide each other.
                    batches[bucket] = batches[bucket].slice(0, 0)
                writer.finish()

    def _merge_files(self, group: int, rows_of: Callable[[int], Iterator[pl.DataFrame]]) -> None:
        place = storage.join(self.work, MERGED, f"group-{group:05d}")
        for source in self.exchange.groups[group]:
            with part_files(source_files(place, source, self.exchange), self.exchange) as write:
                for rows in rows_of(source):
                    write(rows)
        condenser = Condenser()
        for number, slab in enumerate(self.exchange.slabs):
            with contextlib.ExitStack() as stack:
                readers = [
                    stack.enter_context(open_chunks(_slab_file(place, number, source), restartable.FIX))
                    for source in self.exchange.groups[group]
                ]
                for at, part in enumerate(slab):
                    batches = (restored(batch) for one in readers for batch in one.read(at, at + 1, len(slab)))
                    self._write_range(part, group, batches, condenser)
            storage.remove(_slab(place, number))
        storage.remove(place)

    def _write_range(self, part: int, group: int, batches: Iterator[pa.RecordBatch], condenser: Condenser) -> None:
        with storage.open_output(self._range_file(part, group)) as file:
            writer = _RowWriter(file, condenser)
            for rows in _frames(batches):
                writer.write(deal(rows, self.n_buckets, self.exchange.buckets_of(part, self.n_buckets)))
            writer.finish()

    @property
    def removable(self) -> list[list[int]]:
        """Buckets of each lot of files, which :meth:`remove` removes once all of these are sorted."""
        lots = [range(k, k + 1) for k in range(self.exchange.parts)] if self.exchange.merges else self.exchange.slabs
        return [
            sorted({bucket for part in parts for bucket in self.exchange.buckets_of(part, self.n_buckets)})
            for parts in lots
        ]

    def remove(self, lot: int) -> None:
        """Removes files whose buckets are all sorted."""
        storage.remove(self._range(lot) if self.exchange.merges else _slab(self._sources, lot))

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, bucket: int, is_done: Callable[[], bool] = lambda: False) -> pl.DataFrame:
        """Reads the rows of a bucket.

        Args:
            bucket: Number of the bucket.
            is_done: Whether another task has read it meanwhile, so that files may be gone for good.

        Raises:
            DamagedFileError: A file is missing or altered; the next run makes it again.
        """
        batches = list(self._merged(bucket, is_done) if self.exchange.merges else self._single(bucket, is_done))
        batches = [batch for batch in batches if batch.num_rows]
        if not batches:
            return pl.DataFrame()
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches)))
        if not self.exchange.merges and self.exchange.parts % self.n_buckets:
            mine = hashing.share(hashing.hash_ids(frame[Columns.USER_ID]), self.n_buckets) == bucket
            frame = frame.filter(pl.Series(mine))
        return frame

    def _single(self, bucket: int, is_done: Callable[[], bool]) -> Iterator[pa.RecordBatch]:
        wanted = self.exchange.parts_of(bucket, self.n_buckets)
        for number, slab in enumerate(self.exchange.slabs):
            first, last = max(wanted.start, slab.start) - slab.start, min(wanted.stop, slab.stop) - slab.start
            if first >= last:
                continue
            for source in range(self.exchange.sources):
                try:
                    with open_chunks(_slab_file(self._sources, number, source), restartable.FIX) as reader:
                        for batch in map(restored, reader.read(first, last, len(slab))):
                            yield batch if self.change is None else self.change(batch, source)
                except DamagedFileError:
                    if not is_done():
                        self._discard_sources(number, source)
                    raise

    def _discard_sources(self, slab: int, damaged: int) -> None:
        """Has the next run read a damaged source again, and those whose files of the same slab are gone."""
        for source in range(self.exchange.sources):
            if source == damaged or not storage.exists(_slab_file(self._sources, slab, source)):
                storage.remove(restartable.part(self._sources, source, ".json"))

    def _merged(self, bucket: int, is_done: Callable[[], bool]) -> Iterator[pa.RecordBatch]:
        for part in self.exchange.parts_of(bucket, self.n_buckets):
            buckets = self.exchange.buckets_of(part, self.n_buckets)
            at = bucket - buckets.start
            for group in range(len(self.exchange.groups)):
                try:
                    with open_chunks(self._range_file(part, group), restartable.FIX) as reader:
                        yield from map(restored, reader.read(at, at + 1, len(buckets)))
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

    @property
    def _sources(self) -> str:
        return storage.join(self.work, self.folder)

    def _group_record(self, group: int) -> str:
        return restartable.part(storage.join(self.work, MERGED), group, ".json")

    def _range(self, part: int) -> str:
        return storage.join(self.work, MERGED, f"range-{part:05d}")

    def _range_file(self, part: int, group: int) -> str:
        return restartable.part(self._range(part), group, SUFFIX)


def source_files(folder: str, source: int, exchange: Exchange) -> list[str]:
    """Addresses of a source's files, one for each slab of parts."""
    return [_slab_file(folder, number, source) for number in range(len(exchange.slabs))]


def _slab(folder: str, number: int) -> str:
    return storage.join(folder, f"slab-{number:02d}")


def _slab_file(folder: str, number: int, source: int) -> str:
    return restartable.part(_slab(folder, number), source, SUFFIX)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0] if len(batches) > 1 else batches[0]


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
