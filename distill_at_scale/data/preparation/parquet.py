"""Parquet files of a dataset, with their records."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.recorded import FileRecord


def write_parquet(output: str, path: str, table: pa.Table) -> FileRecord:
    """Writes ``table`` to ``path`` inside ``output``."""
    sink = pa.BufferOutputStream()
    # Sorted columns have small differences and suit delta encoding; few distinct values suit a dictionary.
    delta = [c for c in (Columns.USER, Columns.TIMESTAMP) if c in table.column_names]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        row_group_size=1 << 20,
        use_dictionary=[c for c in (Columns.RATING, Columns.SPLIT) if c in table.column_names],
        column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
    )
    content = sink.getvalue()
    storage.write_bytes(storage.join(output, path), content)
    return recorded.record_of(path, content)
