"""Arrow files and streams (Feather, IPC) and ORC: heads on the driver, record batches on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.orc as orc

from distill_at_scale.data import storage
from distill_at_scale.data.readers import tables
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.table_rows import read_batches
from distill_at_scale.data.readers.tables import TableHead, explain_table, open_table, top_column

STREAM: Final = b"\xff\xff\xff\xff"
# The number of rows of a stream is unknown before its end; it is estimated at this many bytes per row.
_ROW_BYTES: Final = 24


def read_arrow_head(file: storage.FileInfo) -> TableHead:
    """Reads the footer of an Arrow file (Feather); each batch is estimated at an equal share of the rows.

    Raises:
        DasError: The file is truncated or damaged.
    """
    with explain_table(file.uri, "arrow"), storage.open_input(file.uri, scattered=True) as source:
        reader: Any = pa.ipc.open_file(source)
        batches = reader.num_record_batches
        rows = reader.count_rows()
        shares = tuple(rows * (k + 1) // batches - rows * k // batches for k in range(batches))
        return TableHead(file, "arrow", reader.schema, shares, exact=batches <= 1)


def read_stream_head(file: storage.FileInfo) -> TableHead:
    """Reads the first message of an Arrow stream.

    Raises:
        DasError: The file is damaged.
    """
    with explain_table(file.uri, "arrow_stream"), storage.open_input(file.uri) as source:
        schema = pa.ipc.open_stream(source).schema
        return TableHead(file, "arrow_stream", schema, (max(1, file.size // _ROW_BYTES),), exact=False)


def read_orc_head(file: storage.FileInfo) -> TableHead:
    """Reads the footer of an ORC file; each stripe is estimated at an equal share of the rows.

    Raises:
        DasError: The file is truncated or damaged.
    """
    with explain_table(file.uri, "orc"), storage.open_input(file.uri, scattered=True) as source:
        reader = orc.ORCFile(source)
        rows, stripes = reader.nrows, reader.nstripes
        shares = tuple(rows * (k + 1) // stripes - rows * k // stripes for k in range(stripes))
        return TableHead(file, "orc", reader.schema, shares, exact=stripes <= 1)


def first_batch(head: TableHead, columns: list[str], rows: int) -> pa.RecordBatch | None:
    """Reads the first rows of some top-level columns; None if the file has no rows."""
    fragment = Fragment(uri=head.file.uri, format=head.format, rows=1, bytes=0, row_groups=(0,))
    if not sum(head.group_rows):
        return None
    with explain_table(head.file.uri, head.format):
        batches = _batches(fragment, columns)
        first = next((batch for batch in batches if batch.num_rows), None)
        return None if first is None else first.slice(0, rows)


def read_table(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Reads a run of record batches or stripes, in batches of at most ``BATCH_ROWS`` rows."""
    own = [name for name in schema.read.values() if name not in fragment.partitions]
    with explain_table(fragment.uri, fragment.format):
        yield from read_batches(_slices(_batches(fragment, own), fragment, own), fragment, schema)


def _slices(batches: Iterator[pa.RecordBatch], fragment: Fragment, own: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        size = tables.batch_rows(batch.schema, fragment, own, batch.num_rows * max(1, len(fragment.row_groups)))
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


def _batches(fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yields a fragment's record batches or stripes with only the columns that hold ``names``."""
    with open_table(fragment.uri) as source:
        if fragment.format == "orc":
            reader = orc.ORCFile(source)
            columns = list(dict.fromkeys(top_column(reader.schema, name) for name in names))
            for stripe in fragment.row_groups:
                yield from _as_batches(reader.read_stripe(stripe, columns))
            return
        # Fields to decode are selected on opening, which requires the schema first.
        opened: Any = pa.ipc.open_file if fragment.format == "arrow" else pa.ipc.open_stream
        arrow = opened(source).schema
        wanted = sorted({arrow.get_field_index(top_column(arrow, name)) for name in names})
        source.seek(0)
        options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        reader = opened(source, options=options)
        if fragment.format == "arrow":
            for index in fragment.row_groups:
                yield reader.get_batch(index)
        else:
            yield from reader


def _as_batches(stripe: Any) -> list[pa.RecordBatch]:
    return stripe.to_batches() if isinstance(stripe, pa.Table) else [stripe]
