"""Restartable parts: a part is done when its record is there, and is never done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import storage


def once(record_uri: str, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record at ``record_uri`` if it is there (with ``reused`` set), otherwise that of ``build()``, kept.

    ``build`` must write its files whole and under fixed names: then a part that was killed half-way, or is
    done by two workers at once, ends the same.
    """
    try:
        return {**storage.read_json(record_uri), "reused": True}
    except FileNotFoundError:
        pass
    record = build()
    storage.write_json(record_uri, record)
    return {**record, "reused": False}


def part(folder: str, index: int, suffix: str) -> str:
    """``<folder>/part-00042<suffix>``."""
    return storage.join(folder, f"part-{index:05d}{suffix}")


def write_arrow(uri: str, table: pa.Table) -> None:
    """Writes an Arrow IPC file whole."""
    with storage.open_output(uri) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_arrow(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Reads an Arrow IPC file; only the named columns' bytes when given."""
    with storage.open_input(uri) as file:
        names = pa.ipc.open_file(file).schema.names
        chosen = None if columns is None else [names.index(name) for name in columns]
        return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=chosen)).read_all()


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
