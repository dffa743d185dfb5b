"""Restartable parts: a part is done when its record is there, and is never done twice.

Records and files have checksums. A damaged record is none: its part is done again. A damaged file takes its record with
it, so that the same command, run again, makes it anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import recorded, sealed, storage
from distill_at_scale.errors import DamagedFileError

log = logging.getLogger(__name__)

FIX = "run the same command again to make it anew"
"""what to do where a part is damaged; the end of a sentence"""


def once(record_uri: str, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record at ``record_uri`` if it is there (with ``reused`` set), otherwise that of ``build()``, kept.

    ``build`` must write its files whole and under fixed names: then a part that was killed half-way, or is
    done by two workers at once, ends the same.
    """
    found = read_record(record_uri)
    if found is not None:
        return {**found, "reused": True}
    record = build()
    recorded.write_json(record_uri, record)
    return {**record, "reused": False}


def read_record(record_uri: str) -> dict[str, Any] | None:
    """The record of a part that is done; None where there is none, or a damaged one."""
    try:
        return recorded.read_json(record_uri, FIX)
    except FileNotFoundError:
        return None
    except DamagedFileError:
        log.warning("%s is damaged; its part is made again.", storage.redact(record_uri))
        return None


@contextlib.contextmanager
def discarding(uri: str) -> Iterator[None]:
    """Where reading the part's file ``uri`` finds it damaged or missing, its record goes: the part is not done."""
    try:
        yield
    except DamagedFileError:
        discard(uri)
        raise


def discard(uri: str) -> None:
    """Removes a part's file and its record, which is named after the file or after its part."""
    folder, name = uri.rsplit("/", 1)
    for one in (f"{uri}.json", storage.join(folder, name.split(".")[0] + ".json"), uri):
        storage.remove(one)


def part(folder: str, index: int, suffix: str) -> str:
    """``<folder>/part-00042<suffix>``."""
    return storage.join(folder, f"part-{index:05d}{suffix}")


def write_arrow(uri: str, table: pa.Table) -> None:
    """Writes a sealed Arrow IPC file whole."""
    with sealed.open_output(uri) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_arrow(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Reads such a file; only the named columns when given.

    Raises:
        DamagedFileError: missing, truncated or altered.
    """
    with discarding(uri), sealed.open_input(uri, FIX) as (file, length), recorded.parsing(uri, FIX):
        chosen = None
        if columns is not None:
            names = pa.ipc.open_file(file, footer_offset=length).schema.names
            chosen = [names.index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=chosen)
        return pa.ipc.open_file(file, footer_offset=length, options=options).read_all()


def write_counts(uri: str, counts: np.ndarray) -> None:
    """Writes an int64 vector as its non-zero entries."""
    # Of whole numbers themselves NumPy looks for nonzero ones five times slower than of truth values.
    index = np.flatnonzero(counts != 0)
    write_arrow(uri, pa.table({"index": index.astype(np.int32), "count": counts[index].astype(np.int64)}))


def add_counts(uri: str, total: np.ndarray) -> None:
    """Adds what :func:`write_counts` wrote to ``total``."""
    table = read_arrow(uri)
    total[table["index"].to_numpy()] += table["count"].to_numpy()


def sum_counts(sources: list[str], target: str) -> None:
    """Writes the sum of several such files to ``target``."""
    tables = [read_arrow(source) for source in sources]
    width = max((int(t["index"].to_numpy().max()) + 1 for t in tables if t.num_rows), default=0)
    total = np.zeros(width, dtype=np.int64)
    for table in tables:
        total[table["index"].to_numpy()] += table["count"].to_numpy()
    write_counts(target, total)


def to_table(frame: pl.DataFrame) -> pa.Table:
    """An Arrow table with plain (not view) strings, which every Arrow reader knows."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.combine_chunks()
