"""Rows between memory and storage: frames and Ray Data's datasets as Parquet parts, and Datasets as Ray Data's."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset, Ids
from distill_at_scale.pipelines.runtime import session

_PATH = "path"


def write_frame(frame: pl.DataFrame, folder: str) -> list[str]:
    """Writes a frame as one Parquet file below ``folder``; returns where it lies."""
    return [_write(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), folder)]


def write_rows(rows: Any, columns: Sequence[str], folder: str) -> list[str]:
    """Writes a ``ray.data.Dataset`` as Parquet files below ``folder``, block by block where the blocks are.

    Returns:
        the files of the tasks that succeeded: a task that was started again may have left another.
    """

    def write(block: pa.Table) -> pa.Table:
        written = [_write(block, folder)] if block.num_rows else []
        return pa.table({_PATH: pa.array(written, pa.string())})

    session.ray_data()
    chosen = rows.select_columns(list(columns))
    return sorted(row[_PATH] for row in chosen.map_batches(write, batch_format="pyarrow", batch_size=None).iter_rows())


def _write(table: pa.Table, folder: str) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    # Nobody knows it before it is written: a task that runs twice writes two files, of which one is reported.
    path = storage.join(folder, f"part-{uuid.uuid4().hex}.parquet")
    storage.write_bytes(path, sink.getvalue())
    return path


def read_dataset(dataset: Dataset, *splits: str, ids: Ids = "original") -> Any:
    """The rows of a Dataset as a ``ray.data.Dataset``; a task reads a shard.

    Connects for good, since what it returns is read later.

    Raises:
        ClusterError: where this process is connected by Ray Client.
    """
    session.connect()
    session.require_driver("Dataset.to_ray")
    dataset.rows(0, *splits, ids=ids)  # what is wrong with the arguments is said here, not by a task

    def read(batch: dict[str, Any]) -> pa.Table:
        frame = dataset.rows(int(batch["shard"][0]), *splits, ids=ids)
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())

    shards = [{"shard": shard} for shard in range(len(dataset.shards))]
    return (
        session.ray_data()
        .from_items(shards, override_num_blocks=len(shards))
        .map_batches(read, batch_size=1, batch_format="numpy")
    )
