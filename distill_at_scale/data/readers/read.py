"""Reading, on the workers: one fragment in, validated batches out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers.arrow_files import read_table
from distill_at_scale.data.readers.delimited import parse_delimited
from distill_at_scale.data.readers.jsonl import parse_jsonl
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.parquet import read_parquet
from distill_at_scale.data.readers.quoting import Quoting
from distill_at_scale.data.readers.repeated import RepeatedHeader
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.selection import select_rows
from distill_at_scale.data.readers.sequences import parse_sequences
from distill_at_scale.data.readers.table_rows import add_partitions
from distill_at_scale.data.readers.tail import LastLine
from distill_at_scale.data.readers.text import BLOCK_BYTES, BOM, Block, blocks, check_utf8, whole_lines
from distill_at_scale.data.readers.time_watch import notice_zones, watch_times
from distill_at_scale.data.row_validation import broken_lines, notice_rows, validate_rows

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
# A row can take as little as two bytes here; smaller blocks keep batches near a million rows.
_SEQUENCE_BLOCK: Final = BLOCK_BYTES // 4


def read_fragment(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Reads a fragment in batches of at most about a million rows; every row is either good or bad, none is lost.

    The same fragment always gives the same batches, and the rows of a file do not depend on its division into
    fragments.

    Raises:
        DasError: The file is missing, truncated, damaged, not UTF-8 or changed since planning, or it contains a second
            header with other columns.
    """
    reader = _TABLES.get(fragment.format, _read_text)
    with storage.unchanged(fragment.uri, fragment.version):
        yield from watch_times(reader(fragment, schema), fragment, schema)


def _read_text(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    source = storage.redact(fragment.uri)
    size = _SEQUENCE_BLOCK if fragment.format == "sequences" else BLOCK_BYTES
    quoted = fragment.format in ("csv", "inter") and fragment.quote == "record"
    # Partition columns are not columns of the lines.
    own = {c: name for c, name in schema.columns.items() if name not in fragment.partitions}
    extra = {c: name for c, name in schema.extra.items() if name not in fragment.partitions}
    lines_schema = schema.model_copy(update={"columns": own, "extra": extra}) if fragment.partitions else schema
    header = RepeatedHeader(fragment, lines_schema, source)
    tail = LastLine(fragment, lines_schema, source)
    for block in blocks(fragment, Quoting.of(fragment, lines_schema).end if quoted else whole_lines, size):
        if block.data.isspace():
            continue
        check_utf8(block.data, fragment.uri, block.line)
        data, odd = _plain_text(block)
        if block.unfinished:
            data, cut = tail.cut_off(data)
        else:
            tail.remember(data)
            cut = None
        parsed = header.drop(_PARSERS[fragment.format](data, fragment, lines_schema), block.line)
        raw = add_partitions(parsed.raw, fragment, schema)
        asked = select_rows(raw, schema.conditions)
        at_rows = 0 if asked.kept is None else asked.kept
        good, bad = validate_rows(asked.raw, schema.id_types, schema.times, source, at_rows)
        if bad.height or parsed.broken:
            rows, broken = parsed.numbers() if block.line is not None else (None, None)
            offset = block.line or 0
            at = None if rows is None else rows[bad["row"].to_numpy()] + offset
            bad = bad.with_columns(_numbers(at, bad.height))
            lines = broken_lines(
                parsed.broken,
                parsed.reasons,
                source,
                _numbers(None if broken is None else broken + offset, len(parsed.broken)),
            )
            bad = pl.concat([bad, lines])
        if cut:
            number = None if block.line is None else [block.line + data.count(b"\n")]
            at_end = _numbers(None if number is None else np.array(number), 1)
            bad = pl.concat([bad, broken_lines([cut.line], [cut.reason], source, at_end)])
        zones = notice_zones(asked.raw, schema)
        notices = merge((odd, tail.noticed(block.unfinished), parsed.noticed, asked.noticed, zones, notice_rows(good)))
        yield Batch(good, bad, tuple(notices), asked.left_out, asked.seen)


def _plain_text(block: Block) -> tuple[bytes, list[Notice]]:
    """Removes what concatenating files leaves in the lines; returns the lines and notices."""
    noticed = []
    if block.returns:
        what = "a carriage return alone (the line end of old Macs) is read as a line end"
        noticed.append(Notice(what=what, count=block.returns, unit="line"))
    data = block.data
    marks = data.count(BOM) if BOM in data else 0
    if marks:
        data = data.removeprefix(BOM).replace(b"\n" + BOM, b"\n")
        marks -= data.count(BOM)
    if marks:
        what = "a byte order mark inside the file (from concatenated files?) is left out"
        noticed.append(Notice(what=what, count=marks, unit="line"))
    return data, noticed


def _numbers(values: np.ndarray | None, size: int) -> pl.Series:
    return pl.Series("row", [None] * size if values is None else values, dtype=pl.Int64)
