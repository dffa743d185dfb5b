"""Parquet: footers on the driver, row batches on the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import storage
from distill_at_scale.data.readers import tables
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.table_format import TableFormat
from distill_at_scale.data.readers.table_rows import read_batches
from distill_at_scale.data.readers.tables import TableHead, explain_table, open_table, top_column

# Larger runs of row groups are not prefetched whole, since they may not fit in memory.
_PREFETCH_ROWS: Final = 4 * tables.FRAGMENT_ROWS
# For a few values pages are fetched one at a time instead of the whole column.
_PAGE_BUFFER: Final = 1 << 16


class Parquet(TableFormat):
    """Parquet; a fragment is a run of row groups."""

    name, endings, magic = "parquet", ("parquet", "pq"), (b"PAR1",)

    def recognises(self, file: storage.FileInfo, start: bytes) -> bool:
        """Compares the first bytes; a file that is only named so is refused."""
        return super().recognises(file, start) or file.uri.lower().rsplit(".", 1)[-1] in self.endings

    def is_not(self) -> str:
        """Says what a Parquet file begins with."""
        return "not a Parquet file (it does not begin with PAR1)"

    def read_schema(self, file: storage.FileInfo) -> TableHead:
        """Reads a file's footer.

        Raises:
            DasError: The file is not a Parquet file, or is truncated, damaged or encrypted.
        """
        with (
            explain_table(file.uri),
            storage.open_input(file.uri, scattered=True) as source,
            pq.ParquetFile(source) as parquet,
        ):
            metadata = parquet.metadata
            rows = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
            return TableHead(file, self.name, parquet.schema_arrow, rows)

    def first_batch(self, head: TableHead, columns: list[str], rows: int) -> pa.RecordBatch | None:
        """Reads the first rows of some top-level columns; None if the file has no rows."""
        uri = head.file.uri
        with (
            explain_table(uri),
            storage.open_input(uri, scattered=True) as source,
            pq.ParquetFile(source, buffer_size=_PAGE_BUFFER) as parquet,
        ):
            return next(parquet.iter_batches(rows, columns=columns, use_threads=False), None)

    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the row groups in batches of at most ``BATCH_ROWS`` rows."""
        prefetch = not storage.is_local(fragment.uri) and fragment.rows <= _PREFETCH_ROWS
        with (
            open_table(fragment.uri) as source,
            pq.ParquetFile(source, pre_buffer=prefetch, page_checksum_verification=True) as parquet,
        ):
            arrow: Any = parquet.schema_arrow
            columns = list(dict.fromkeys(top_column(arrow, name) for name in names))
            rows = sum(parquet.metadata.row_group(group).num_rows for group in fragment.row_groups)
            yield from parquet.iter_batches(
                tables.batch_rows(arrow, fragment, names, rows),
                list(fragment.row_groups),
                columns=columns,
                use_threads=False,
            )

    def read(self, fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
        """Reads a run of row groups; its batches are of the right size already."""
        own = [name for name in schema.read.values() if name not in fragment.partitions]
        with explain_table(fragment.uri):
            yield from read_batches(self.batches(fragment, own), fragment, schema)


PARQUET = Parquet()
