"""Arrow files and streams (Feather, IPC) and ORC: heads on the driver, record batches on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.orc as orc

from distill_at_scale.data import storage
from distill_at_scale.data.readers.schema import Fragment
from distill_at_scale.data.readers.table_format import TableFormat
from distill_at_scale.data.readers.tables import TableHead, explain_table, open_table, top_column

STREAM: Final = b"\xff\xff\xff\xff"
# The number of rows of a stream is unknown before its end; it is estimated at this many bytes per row.
_ROW_BYTES: Final = 24


class ArrowStream(TableFormat):
    """Stream of Arrow record batches, always read as a whole."""

    name, title, magic, counted = "arrow_stream", "arrow (IPC stream)", (STREAM,), False

    def read_schema(self, file: storage.FileInfo) -> TableHead:
        """Reads the first message.

        Raises:
            DasError: The file is damaged.
        """
        with explain_table(file.uri, self.name), storage.open_input(file.uri) as source:
            schema = pa.ipc.open_stream(source).schema
            return TableHead(file, self.name, schema, (max(1, file.size // _ROW_BYTES),), exact=False)

    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the record batches of the stream."""
        with open_table(fragment.uri) as source:
            yield from _opened(pa.ipc.open_stream, source, names)


class Arrow(TableFormat):
    """Arrow file (Feather); a fragment is a run of record batches. Streams are taken too, and read as such."""

    name, title, magic = "arrow", "arrow (Feather, IPC)", (b"ARROW1", STREAM)

    def read_schema(self, file: storage.FileInfo) -> TableHead:
        """Reads the footer; each batch is estimated at an equal share of the rows.

        Raises:
            DasError: The file is truncated or damaged.
        """
        with explain_table(file.uri, self.name), storage.open_input(file.uri, scattered=True) as source:
            if source.read(len(STREAM)) == STREAM:
                return ARROW_STREAM.read_schema(file)
            source.seek(0)
            reader: Any = pa.ipc.open_file(source)
            batches = reader.num_record_batches
            return TableHead(file, self.name, reader.schema, _shares(reader.count_rows(), batches), exact=batches <= 1)

    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the record batches of a run."""
        with open_table(fragment.uri) as source:
            reader = _opened(pa.ipc.open_file, source, names)
            for index in fragment.row_groups:
                yield reader.get_batch(index)


class Orc(TableFormat):
    """ORC; a fragment is a run of stripes."""

    name, magic = "orc", (b"ORC",)

    def read_schema(self, file: storage.FileInfo) -> TableHead:
        """Reads the footer; each stripe is estimated at an equal share of the rows.

        Raises:
            DasError: The file is truncated or damaged.
        """
        with explain_table(file.uri, self.name), storage.open_input(file.uri, scattered=True) as source:
            reader = orc.ORCFile(source)
            shares = _shares(reader.nrows, reader.nstripes)
            return TableHead(file, self.name, reader.schema, shares, exact=reader.nstripes <= 1)

    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the stripes of a run as record batches."""
        with open_table(fragment.uri) as source:
            reader = orc.ORCFile(source)
            columns = list(dict.fromkeys(top_column(reader.schema, name) for name in names))
            for index in fragment.row_groups:
                stripe: Any = reader.read_stripe(index, columns)
                yield from stripe.to_batches() if isinstance(stripe, pa.Table) else [stripe]


ARROW, ARROW_STREAM, ORC = Arrow(), ArrowStream(), Orc()


def _shares(rows: int, parts: int) -> tuple[int, ...]:
    return tuple(rows * (k + 1) // parts - rows * k // parts for k in range(parts))


def _opened(open_: Callable[..., Any], source: Any, names: list[str]) -> Any:
    """Opens a file or stream so that only the columns that hold ``names`` are decoded."""
    # Fields to decode are selected on opening, which requires the schema first.
    arrow = open_(source).schema
    wanted = sorted({arrow.get_field_index(top_column(arrow, name)) for name in names})
    source.seek(0)
    return open_(source, options=pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False))
