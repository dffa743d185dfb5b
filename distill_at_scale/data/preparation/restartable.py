"""Restartable parts: a part is done once its record exists, and is never done twice.

Records and files have checksums. A damaged record counts as missing, so its part is done again. A damaged file is
removed with its record, so that the same command, run again, repeats the part.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import ValidationError

from distill_at_scale.data import recorded, sealed, storage
from distill_at_scale.data.preparation.condensed import Condenser, lists_of, restored
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import DamagedFileError

R = TypeVar("R", bound=PartRecord)

log = logging.getLogger(__name__)

READ_ONCE = "read-once"
"""Folder of parts' files that are removed once they are read; their records lie beside it."""

FIX = "run the same command again to make it again"
"""Remedy for a damaged part, as the end of a sentence."""


def once(record_uri: str, kind: type[R], build: Callable[[], R]) -> R:
    """Returns the record of a part at ``record_uri``, as a ``kind``, if it exists (with ``reused`` set); otherwise
    calls ``build()`` and stores its record.

    ``build`` must write its files atomically and under fixed names. A part that was killed midway, or that two workers
    do at once, then ends the same.
    """
    existing = read_record(record_uri)
    if existing is not None:
        try:
            return replace(kind.from_json(existing), reused=True)
        except ValidationError:
            log.warning("%s is of another version; its part is done again.", storage.redact(record_uri))
    record = build()
    recorded.write_json(record_uri, record.to_json())
    return record


def read_record(record_uri: str) -> dict[str, Any] | None:
    """Reads the record of a finished part; None if it is missing or damaged."""
    try:
        return recorded.read_json(record_uri, FIX)
    except FileNotFoundError:
        return None
    except DamagedFileError:
        log.warning("%s is damaged; its part is done again.", storage.redact(record_uri))
        return None


@contextlib.contextmanager
def discarding(uri: str) -> Iterator[None]:
    """Removes the record of a part if reading its file ``uri`` shows damage, so that the part is done again."""
    try:
        yield
    except DamagedFileError:
        discard(uri)
        raise


def discard(uri: str) -> None:
    """Removes a part's file and its record, which is named after the file or the part."""
    folder, name = uri.rsplit("/", 1)
    folder = folder.removesuffix(f"/{READ_ONCE}")
    for one in (f"{uri}.json", storage.join(folder, name.split(".")[0] + ".json"), uri):
        storage.remove(one)


def part(folder: str, index: int, suffix: str) -> str:
    """Returns ``<folder>/part-00042<suffix>``."""
    return storage.join(folder, f"part-{index:05d}{suffix}")


def read_once(folder: str, index: int, suffix: str) -> str:
    """Returns the address of a part's file that is removed once it is read."""
    return part(storage.join(folder, READ_ONCE), index, suffix)


def free(folder: str) -> None:
    """Removes the files of a stage's parts that were read."""
    storage.remove(storage.join(folder, READ_ONCE))


def write_arrow(uri: str, table: pa.Table, compress: bool = False) -> None:
    """Writes a sealed Arrow IPC file, whose columns may be compressed."""
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1) if compress else None)
    with sealed.open_output(uri) as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def read_arrow(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a file that :func:`write_arrow` wrote: all columns, or the named ones.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    with discarding(uri), sealed.open_input(uri, FIX) as (file, length), recorded.parsing(uri, FIX):
        chosen = None
        if columns is not None:
            names = pa.ipc.open_file(file, footer_offset=length).schema.names
            chosen = [names.index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=chosen)
        return pa.ipc.open_file(file, footer_offset=length, options=options).read_all()


def write_condensed(uri: str, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns of equal length in few bytes, as a sealed Arrow IPC file."""
    write_arrow(uri, pa.Table.from_batches([Condenser().condense(columns)]))


def read_condensed(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a file that :func:`write_condensed` wrote: all columns, or the named ones.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    table = read_arrow(uri, None if columns is None else lists_of(columns))
    return pa.Table.from_batches([restored(batch) for batch in table.to_batches()])


def write_counts(uri: str, counts: np.ndarray) -> None:
    """Writes an int64 vector as its non-zero entries."""
    # NumPy finds nonzero entries of a boolean array five times faster than of an integer array.
    index = np.flatnonzero(counts != 0)
    write_condensed(uri, {"step": np.diff(index, prepend=0), "count": counts[index].astype(np.int64)})


def _read_counts(uri: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of the non-zero entries that :func:`write_counts` wrote."""
    table = read_condensed(uri)
    return np.cumsum(table["step"].to_numpy()), table["count"].to_numpy()


def add_counts(uri: str, total: np.ndarray) -> None:
    """Adds counts written by :func:`write_counts` to ``total``."""
    index, count = _read_counts(uri)
    total[index] += count


def sum_counts(sources: list[str], target: str) -> None:
    """Writes the sum of several count files to ``target``."""
    counts = [_read_counts(source) for source in sources]
    total = np.zeros(max((int(index[-1]) + 1 for index, _ in counts if len(index)), default=0), dtype=np.int64)
    for index, count in counts:
        total[index] += count
    write_counts(target, total)


def to_table(frame: pl.DataFrame) -> pa.Table:
    """Converts to an Arrow table with plain (not view) strings, which every Arrow reader supports."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.combine_chunks()
