"""The worker's half of reading a log: one fragment in, validated batches out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.cleaning import broken_lines, clean_rows
from distill_at_scale.data.readers.arrow_files import read_table
from distill_at_scale.data.readers.delimited import parse_delimited
from distill_at_scale.data.readers.jsonl import parse_jsonl
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.parquet import read_parquet
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.sequences import parse_sequences
from distill_at_scale.data.readers.table_rows import add_partitions
from distill_at_scale.data.readers.text import BLOCK_BYTES, blocks, check_utf8

_PARSERS: Final[dict[str, Callable[[bytes, Fragment, LogSchema], Parsed]]] = {
    "csv": parse_delimited,
    "inter": parse_delimited,
    "movielens": parse_delimited,
    "jsonl": parse_jsonl,
    "sequences": parse_sequences,
}
_TABLES: Final[dict[str, Callable[[Fragment, LogSchema], Iterator[Batch]]]] = {
    "parquet": read_parquet,
    "arrow": read_table,
    "arrow_stream": read_table,
    "orc": read_table,
}
# Two bytes can make a row here, so a smaller block keeps batches near a million rows.
_SEQUENCE_BLOCK: Final = BLOCK_BYTES // 4


def read_fragment(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Reads a fragment in batches of at most about a million rows; every row is good or bad, none is lost.

    The same fragment gives the same batches each time, and the rows of a file do not depend on how it
    was cut into fragments.

    Raises:
        DasError: the file is gone, cut off, damaged or not UTF-8.
    """
    reader = _TABLES.get(fragment.format, _read_text)
    return reader(fragment, schema)


def _read_text(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    source = storage.redact(fragment.uri)
    parse = _PARSERS[fragment.format]
    quoted = fragment.format in ("csv", "inter")
    size = _SEQUENCE_BLOCK if fragment.format == "sequences" else BLOCK_BYTES
    # What the folders' names give is no column of the lines.
    own = {c: name for c, name in schema.columns.items() if name not in fragment.partitions}
    lines_schema = schema.model_copy(update={"columns": own}) if fragment.partitions else schema
    for block, first_line in blocks(fragment, quoted, size):
        if block.isspace():
            continue
        check_utf8(block, fragment.uri, first_line)
        parsed = parse(block, fragment, lines_schema)
        good, bad = clean_rows(
            add_partitions(parsed.raw, fragment, schema), schema.id_types, schema.time_unit, source, 0
        )
        if bad.height or parsed.broken:
            rows, broken = parsed.numbers() if first_line is not None else (None, None)
            offset = first_line or 0
            at = None if rows is None else rows[bad["row"].to_numpy()] + offset
            bad = bad.with_columns(_numbers(at, bad.height))
            lines = broken_lines(
                parsed.broken,
                parsed.reasons,
                source,
                _numbers(None if broken is None else broken + offset, len(parsed.broken)),
            )
            bad = pl.concat([bad, lines])
        yield Batch(good, bad)


def _numbers(values: np.ndarray | None, size: int) -> pl.Series:
    return pl.Series("row", [None] * size if values is None else values, dtype=pl.Int64)
