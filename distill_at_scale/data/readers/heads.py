"""What the driver reads of each file: a table's footer or a text file's first lines, and the first values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.formats import detect
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.table_format import TableFormat
from distill_at_scale.data.readers.table_rows import column_values, list_lengths, simple
from distill_at_scale.data.readers.tables import TableHead, field_type, is_bytes, is_list_column, is_text, top_column
from distill_at_scale.data.readers.text import HEAD_BYTES, read_start

SAMPLE_ROWS: Final = 1000
# Lists may be long; this many rows suffice to estimate their mean length.
_LIST_ROWS: Final = 100


def read_head(file: storage.FileInfo, options: LogOptions) -> Head | None:
    """Detects a file's format, from its first bytes or ``options``; None if the file has no lines.

    Raises:
        DasError: The format is not supported, or the file is damaged.
    """
    return detect(file, read_start(file, HEAD_BYTES), options)


def file_of(head: Head) -> storage.FileInfo:
    """Returns the file of a head."""
    return head.file if isinstance(head, TableHead) else head.head.file


def name_of(head: Head) -> str:
    """Returns the file name of a head, for messages."""
    return storage.redact(file_of(head).uri)


@dataclass(frozen=True)
class Sample:
    """Facts from a file's first values that its column types do not give.

    Attributes:
        times: Timestamps as numbers or text, or (typed) milliseconds; None if no times are read.
        typed: Whether the timestamps carry their own unit.
        hex_ids: Id columns whose bytes are not valid text.
        rows_per_row: Mean length of the lists.
    """

    times: list[Any] | None = None
    typed: bool = False
    hex_ids: frozenset[str] = frozenset()
    rows_per_row: float = 1.0


def look_at(head: Head, columns: dict[str, str], partitions: dict[str, str | None]) -> Sample:
    """Samples the first values of a file's columns; reads pages of a table only where its types leave questions.

    Raises:
        DasError: The file is damaged.
    """
    time = columns.get(Columns.TIMESTAMP)
    if isinstance(head, TextLayout):
        if time is None or format_of(head).positions:
            return Sample()
        return Sample(times=[partitions[time]] if time in partitions else head.samples.get(time, []))
    own = {c: name for c, name in columns.items() if name not in partitions}
    types = {c: field_type(head.schema, name)[0] for c, name in own.items()}
    asked = [c for c in own if c == Columns.TIMESTAMP or is_bytes(types[c]) or is_list_column(head, own[c])]
    lists = [name for name in own.values() if is_list_column(head, name)]
    batch = None
    if asked:
        top = list(dict.fromkeys(top_column(head.schema, own[c]) for c in asked))
        batch = _first_batch(head, top, _LIST_ROWS if lists else SAMPLE_ROWS)
    times: list[Any] | None = None
    typed = False
    if time in partitions:
        times = [partitions[time]]
    elif time is not None:
        dtype = types[Columns.TIMESTAMP]
        typed = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype)
        times = [] if batch is None else _times(column_values(batch, time))
    if batch is None:
        return Sample(times, typed)
    hex_ids = frozenset(
        c
        for c in own
        if c in (Columns.USER_ID, Columns.ITEM_ID) and is_bytes(types[c]) and not _utf8(column_values(batch, own[c]))
    )
    mean = float(np.mean(list_lengths(batch, lists[0]))) if lists and batch.num_rows else 1.0
    return Sample(times, typed, hex_ids, mean)


def first_values(head: TableHead, name: str, floats: bool = False) -> list[Any]:
    """Returns the first values of a column of text or integers, or of ``floats`` and booleans too; else none.

    Raises:
        DasError: The file is damaged.
    """
    dtype, depth = field_type(head.schema, name)
    known = (
        is_text(dtype)
        or pa.types.is_integer(dtype)
        or (floats and (pa.types.is_floating(dtype) or pa.types.is_boolean(dtype)))
    )
    if depth or not known or is_bytes(dtype):
        return []
    batch = _first_batch(head, [top_column(head.schema, name)], SAMPLE_ROWS)
    return [] if batch is None else list(column_values(batch, name).to_pylist())


def _first_batch(head: TableHead, columns: list[str], rows: int) -> pa.RecordBatch | None:
    format = format_of(head)
    assert isinstance(format, TableFormat)
    return format.first_batch(head, columns, rows)


def _times(values: Any) -> list[Any]:
    values = values.drop_null()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if is_text(values.type):
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values.to_pylist()]
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        # Typed times carry their own unit; they are inspected in milliseconds.
        zone = values.type.tz if pa.types.is_timestamp(values.type) else None
        values = values.cast(pa.timestamp("ms", tz=zone), safe=False).cast(pa.int64())
    if pa.types.is_integer(values.type):
        return list(values.to_pylist())
    return list(values.cast(pa.float64(), safe=False).to_pylist())


def _utf8(values: Any) -> bool:
    """Whether bytes are text: valid UTF-8, without the control characters that digests and UUIDs are full of."""
    try:
        text = pl.Series(simple(values), dtype=pl.String)
    except pa.ArrowInvalid:
        return False
    return not text.str.contains("[\x00-\x08\x0a-\x1f]").any()
