"""Formats of tables: files with columns and types, read as record batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.readers import tables
from distill_at_scale.data.readers.layout import Head
from distill_at_scale.data.readers.log_format import LogFormat
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.table_rows import read_batches
from distill_at_scale.data.readers.tables import TableHead, explain_table
from distill_at_scale.errors import DasError


class TableFormat(LogFormat):
    """A format of tables. Lists, nested fields, types and conditions are dealt with here, whatever the format."""

    magic: ClassVar[tuple[bytes, ...]] = ()
    """First bytes of its files; empty: they are recognised by their endings."""

    def recognises(self, file: storage.FileInfo, start: bytes) -> bool:
        """Compares the first bytes; by the ending if the format has none."""
        return start.startswith(self.magic) if self.magic else super().recognises(file, start)

    def head(self, file: storage.FileInfo, start: bytes, options: LogOptions) -> TableHead:
        """Reads the columns, the types and the number of rows."""
        if self.magic and not start.startswith(self.magic):
            raise DasError(f"{storage.redact(file.uri)}: {self.is_not()}; name its format with --format.")
        return self.read_schema(file)

    def is_not(self) -> str:
        """Returns a clause that says of a file that it is of another format."""
        return f"not a file of the format {self.name}"

    @abstractmethod
    def read_schema(self, file: storage.FileInfo) -> TableHead:
        """Reads the columns, the types, and the rows of each part (row group, batch, stripe) that can be read alone.

        Raises:
            DasError: The file is truncated or damaged.
        """

    @abstractmethod
    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the record batches of a fragment's parts (``fragment.row_groups``) with the columns that hold
        ``names``: columns, or fields within them as ``column.field``."""

    def first_batch(self, head: TableHead, columns: list[str], rows: int) -> pa.RecordBatch | None:
        """Reads the first rows of some columns; None if the file has no rows."""
        if not sum(head.group_rows):
            return None
        fragment = Fragment(uri=head.file.uri, format=head.format, rows=1, bytes=0, row_groups=(0,))
        with explain_table(head.file.uri, head.format):
            first = next((batch for batch in self.batches(fragment, columns) if batch.num_rows), None)
            return None if first is None else first.slice(0, rows)

    def plan(
        self, head: Head, fragment_bytes: int, partitions: Mapping[str, str | None], rows_per_row: float
    ) -> list[Fragment]:
        """Divides a file into runs of parts."""
        assert isinstance(head, TableHead)
        pieces = tables.plan_fragments(head, rows_per_row)
        update = {"partitions": dict(partitions)}
        return [piece.model_copy(update=update) for piece in pieces] if partitions else pieces

    def read(self, fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
        """Reads a run of parts, in batches of at most ``BATCH_ROWS`` rows."""
        own = [name for name in schema.read.values() if name not in fragment.partitions]
        with explain_table(fragment.uri, fragment.format):
            yield from read_batches(_slices(self.batches(fragment, own), fragment, own), fragment, schema)


def _slices(batches: Iterator[pa.RecordBatch], fragment: Fragment, own: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        size = tables.batch_rows(batch.schema, fragment, own, batch.num_rows * max(1, len(fragment.row_groups)))
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)
