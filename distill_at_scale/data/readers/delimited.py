"""Lines of fields (CSV, TSV, RecBole .inter, MovieLens ``::``) as raw rows and broken lines."""

from __future__ import annotations

import csv
from typing import Any, Final, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.lines import Parsed, line_numbers
from distill_at_scale.data.readers.schema import Fragment, LogSchema

# Arrow's parser takes one character; no text log holds this one.
_STAND_IN: Final = "\x01"


def parse_delimited(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """One block of whole lines.

    Integers and ratings are parsed as such; a block where that fails is read as text, so that only the
    rows at fault are bad.
    """
    movielens = fragment.format == "movielens"
    if movielens:
        block = block.replace(b"::", _STAND_IN.encode())
    delimiter = _STAND_IN if movielens else fragment.delimiter or ","
    # A search for one byte is far faster than counting it.
    quotes = 0 if movielens or b'"' not in block else block.count(b'"')
    if quotes % 2:
        # Arrow would take everything behind a quote that is never closed for one field.
        return _parse_lines(block, fragment, schema, delimiter)
    types = _fast_types(schema)
    # Arrow reads 0x1F as an integer; the rules of a row may not depend on who parses it.
    if not ((b"x" in block and b"0x" in block) or (b"X" in block and b"0X" in block)):
        parsed = _parse(block, fragment, schema, delimiter, quotes > 0, types)
        if parsed is not None:
            return parsed
    texts: dict[str, pa.DataType] = dict.fromkeys(types, pa.string())
    parsed = _parse(block, fragment, schema, delimiter, quotes > 0, texts)
    return parsed or _parse_lines(block, fragment, schema, delimiter)


def _fast_types(schema: LogSchema) -> dict[str, pa.DataType]:
    types: dict[str, pa.DataType] = {}
    for canonical in schema.columns:
        if schema.id_types.get(canonical) == "int64":
            types[canonical] = pa.int64()
        elif canonical == Columns.RATING:
            types[canonical] = pa.float64()
        elif canonical == Columns.TIMESTAMP and schema.text_types.get(canonical) == "int":
            types[canonical] = pa.int64()
        else:
            types[canonical] = pa.string()
    return types


def _parse(
    block: bytes,
    fragment: Fragment,
    schema: LogSchema,
    delimiter: str,
    quoted: bool,
    types: dict[str, pa.DataType],
) -> Parsed | None:
    """The block read with these types; None when a value does not fit them."""
    broken: list[pa_csv.InvalidRow] = []

    def keep(row: pa_csv.InvalidRow) -> Literal["skip"]:
        broken.append(row)
        return "skip"

    source: Any = pa.BufferReader(block)
    try:
        table = pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(
                column_names=list(fragment.names), use_threads=False, block_size=max(len(block) + 1, 1 << 16)
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=keep,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(schema.columns.values()),
                column_types={schema.columns[name]: dtype for name, dtype in types.items()},
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    raw = pl.DataFrame({c: pl.Series(c, table.column(name)) for c, name in schema.columns.items()})
    expected = len(fragment.names)
    texts = [row.text.replace(_STAND_IN, "::") if fragment.format == "movielens" else row.text for row in broken]
    reasons = [_ragged(row.actual_columns, expected) for row in broken]

    def numbers() -> tuple[np.ndarray | None, np.ndarray | None]:
        lines = line_numbers(block)
        faulty = np.array([row.number - 1 for row in broken if row.number is not None], dtype=np.int64)
        if len(lines) != raw.height + len(broken) or len(faulty) != len(broken):
            return None, None
        return np.delete(lines, faulty), lines[faulty]

    return Parsed(raw, texts, reasons, numbers)


def _ragged(found: int, expected: int) -> str:
    return f"line has {found} fields instead of {expected}"


def _parse_lines(block: bytes, fragment: Fragment, schema: LogSchema, delimiter: str) -> Parsed:
    """Line by line, for the block with a quote that is never closed: only its line is bad."""
    lines = block.decode().split("\n")
    wanted = [(canonical, fragment.names.index(name)) for canonical, name in schema.columns.items()]
    rows: list[list[str]] = []
    row_lines: list[int] = []
    texts: list[str] = []
    reasons: list[str] = []
    broken_at: list[int] = []
    for index, line in enumerate(lines):
        line = line.rstrip("\r")
        if not line:
            continue
        try:
            fields = next(csv.reader([line], delimiter=delimiter, strict=True))
            reason = None if len(fields) == len(fragment.names) else _ragged(len(fields), len(fragment.names))
        except csv.Error:
            reason = "line has a quote that is not closed"
        if reason is None:
            rows.append([fields[position] for _, position in wanted])
            row_lines.append(index)
        else:
            texts.append(line)
            reasons.append(reason)
            broken_at.append(index)
    raw = pl.DataFrame(rows, schema=dict.fromkeys((c for c, _ in wanted), pl.String), orient="row")
    return Parsed(raw, texts, reasons, lambda: (np.array(row_lines, np.int64), np.array(broken_at, np.int64)))
