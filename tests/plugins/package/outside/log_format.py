"""Log formats of one's own: lines of ``key=value``, and Avro files as tables."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from distill_at_scale.data.readers.line_format import LineFormat
from distill_at_scale.data.readers.schema import Fragment
from distill_at_scale.data.readers.table_format import TableFormat
from distill_at_scale.data.readers.tables import TableHead
from distill_at_scale.data.storage import FileInfo


class Logfmt(LineFormat):
    """Lines such as ``user=1 item=2 ts=1600000000``."""

    name, endings, names = "logfmt", ("logfmt",), ("user", "item", "ts")

    def fields(self, line: str) -> list[str] | None:
        """The values, in any order; None if one of the keys is missing."""
        pairs = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        return [pairs[name] for name in self.names] if all(name in pairs for name in self.names) else None


class Avro(TableFormat):
    """Avro files, read as a whole."""

    name, magic = "avro", (b"Obj\x01",)

    def read_schema(self, file: FileInfo) -> TableHead:
        """The columns and the number of rows."""
        table = pl.read_avro(file.uri).to_arrow()
        return TableHead(file, self.name, table.schema, (table.num_rows,))

    def batches(self, fragment: Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
        """All rows."""
        yield from pl.read_avro(fragment.uri).select(names).to_arrow().to_batches()


LOGFMT, AVRO = Logfmt(), Avro()
