"""A file of many record batches, each of which can be read and verified alone.

Chunks are consecutive Arrow IPC messages. An index with the position and digest of each follows, then the schema, the
digest of both, and their sizes. A bucket is a few chunks of every fragment's file; its reader neither reads nor
verifies the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

import numpy as np
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.digests import digest_of
from distill_at_scale.data.recorded import missing_is_damage, parsing
from distill_at_scale.errors import DamagedFileError

_ENTRY = np.dtype([("start", "<u8"), ("length", "<u8"), ("digest", "V32")])
# Digest of index and schema, number of chunks, bytes of the schema.
_END = 32 + 8 + 8


class ChunkWriter:
    """Appends record batches of one schema to a file; :meth:`finish` completes it.

    Args:
        file: The file.
        compress: Whether chunks are compressed, which pays where they have thousands of rows.
    """

    def __init__(self, file: IO[bytes], compress: bool = False) -> None:
        self._file = file
        self._options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1)) if compress else None
        self._schema = pa.schema([])
        self._entries: list[tuple[int, int, bytes]] = []
        self._start = 0

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Appends one chunk per batch, also for empty batches."""
        for batch in batches:
            self._schema = batch.schema
            message = batch.serialize() if self._options is None else _compressed(batch, self._options)
            self._file.write(cast(bytes, message))
            self._entries.append((self._start, len(message), digest_of(message)))
            self._start += len(message)

    def finish(self) -> None:
        """Writes the index."""
        index = np.array(self._entries, dtype=_ENTRY).tobytes()
        schema = self._schema.serialize().to_pybytes()
        sizes = len(self._entries).to_bytes(8, "little") + len(schema).to_bytes(8, "little")
        self._file.write(index + schema + digest_of(index + schema + sizes) + sizes)


def _compressed(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> pa.Buffer:
    """The batch as one message; only a stream's writer compresses, whose first message is the schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
        end = sink.tell()
    begin = batch.schema.serialize().size
    return sink.getvalue().slice(begin, end - begin)


class ChunkReader:
    """Reads chunks of an open file, whose index it reads and verifies once.

    Args:
        file: The file, opened for scattered reading.
        uri: Its address.
        fix: Remedy for a damaged file, as the end of a sentence.

    Raises:
        DamagedFileError: The file is truncated, or its index is altered.
    """

    def __init__(self, file: pa.NativeFile, uri: str, fix: str) -> None:
        self._file, self._uri, self._fix = file, uri, fix
        self._entries, self._schema = _index(file, uri, fix)

    def read(self, first: int, last: int, every: int) -> list[pa.RecordBatch]:
        """Reads the chunks first … last − 1 of every group of ``every`` chunks.

        Raises:
            DamagedFileError: A requested chunk is altered.
        """
        batches: list[pa.RecordBatch] = []
        for start in range(0, len(self._entries), every):
            wanted = self._entries[start + first : start + last]
            if not len(wanted):
                continue
            # Adjacent chunks are read at once.
            begin, end = int(wanted[0]["start"]), int(wanted[-1]["start"] + wanted[-1]["length"])
            self._file.seek(begin)
            content = self._file.read_buffer(end - begin)
            batches += _batches(content, begin, wanted, self._schema, self._uri, self._fix)
        return batches


@contextlib.contextmanager
def open_chunks(uri: str, fix: str) -> Iterator[ChunkReader]:
    """Opens a file of chunks.

    Raises:
        DamagedFileError: The file is missing or damaged.
    """
    with missing_is_damage(uri, fix), storage.open_input(uri, scattered=True) as file:
        yield ChunkReader(file, uri, fix)


def _index(file: pa.NativeFile, uri: str, fix: str) -> tuple[np.ndarray, pa.Schema]:
    with parsing(uri, fix):
        size = file.size()
        file.seek(max(size - _END, 0))
        end = file.read(_END)
        chunks, schema_bytes = (int.from_bytes(end[k : k + 8], "little") for k in (32, 40))
        length = chunks * _ENTRY.itemsize + schema_bytes
        if len(end) < _END or length > size - _END:
            raise damaged(uri, fix)
        file.seek(size - _END - length)
        content = file.read(length)
        if digest_of(content + end[32:]) != end[:32]:
            raise damaged(uri, fix)
        index = np.frombuffer(content, _ENTRY, chunks)
        return index, pa.ipc.read_schema(pa.py_buffer(content[length - schema_bytes :]))


def _batches(
    content: pa.Buffer, begin: int, wanted: Sequence[np.void] | np.ndarray, schema: pa.Schema, uri: str, fix: str
) -> list[pa.RecordBatch]:
    batches = []
    with parsing(uri, fix):
        for entry in wanted:
            message = content.slice(int(entry["start"]) - begin, int(entry["length"]))
            if digest_of(message) != bytes(entry["digest"]):
                raise damaged(uri, fix)
            batches.append(pa.ipc.read_record_batch(message, schema))
    return batches


def damaged(uri: str, fix: str) -> DamagedFileError:
    return DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
