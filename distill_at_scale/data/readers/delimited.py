"""Delimited lines (CSV, TSV, RecBole .inter, MovieLens ``::``) as raw rows and malformed lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.ids import is_canonical
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.escapes import unescaped
from distill_at_scale.data.readers.lines import Parsed, line_numbers
from distill_at_scale.data.readers.quoting import Quoting, Records
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.facts import count_of

# Arrow's parser accepts only a one-character delimiter; this character occurs in no text log.
_STAND_IN: Final = "\x01"
_UNCLOSED: Final = "line has a quote that is not closed (--quote none reads quotes as plain characters)"
_STRAY: Final = "a quote that is not closed on its line is read as a plain character"


def parse_delimited(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """Parses one block of whole lines.

    Integers and ratings are parsed as numbers first; if that fails, the block is read as text, so that only the faulty
    rows are bad. In a block with quotes every line is accounted for: if the rows and the line ends within quotes do not
    add up to the number of lines, the block is parsed line by line.
    """
    delimiter = fragment.delimiter or ","
    if len(delimiter) > 1:
        return _parse_plain(block.replace(delimiter.encode(), _STAND_IN.encode()), fragment, schema, _STAND_IN)
    if fragment.quote == "none" or b'"' not in block:
        return _parse_plain(block, fragment, schema, delimiter)
    block, noticed = unescaped(block, delimiter, len(fragment.names))
    parsed = _parse_with_quotes(block, fragment, schema)
    return replace(parsed, noticed=(*noticed, *parsed.noticed)) if noticed else parsed


def _parse_with_quotes(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """Parses a block with quotes, none of which is escaped by a backslash."""
    quoting = Quoting.of(fragment, schema)
    records = quoting.split(block)
    if records.stray and fragment.quote == "line":
        return _parse_lines(block, fragment, schema, quoting)
    return _parse_quoted(block, fragment, schema, quoting, records)


def _parse_plain(block: bytes, fragment: Fragment, schema: LogSchema, delimiter: str) -> Parsed:
    """Parses a block in which every line is a row."""
    for types in _type_choices(block, schema, delimiter):
        parsed = _arrow(block, fragment, schema, delimiter, types, quoted=False)
        if parsed is not None:
            raw, broken = parsed
            return _parsed(raw, broken, fragment, lambda: line_numbers(block))
    return _parse_lines(block, fragment, schema, Quoting(delimiter, "none", len(fragment.names)))


def _parse_quoted(block: bytes, fragment: Fragment, schema: LogSchema, quoting: Quoting, records: Records) -> Parsed:
    """Parses single-line and multi-line records, excluding those with a stray quote."""
    starts = _first_lines(block, records)
    left = block
    if records.stray:
        keep = np.ones(len(records.starts), dtype=bool)
        keep[records.stray] = False
        bounds = np.append(records.starts, records.end)
        left = b"".join(block[bounds[k] : bounds[k + 1]] for k in np.flatnonzero(keep))
    for types in _type_choices(left, schema, quoting.delimiter):
        parsed = _arrow(left, fragment, schema, quoting.delimiter, types, quoted=True)
        if parsed is None:
            continue
        raw, broken = parsed
        if raw.height + len(broken) != len(starts):
            # Arrow read a plain character as a quote: its rows do not match the lines.
            break
        whole = _parsed(raw, broken, fragment, lambda: starts)
        return _with_stray(whole, block, records)
    return _parse_lines(block, fragment, schema, quoting)


def _with_stray(parsed: Parsed, block: bytes, records: Records) -> Parsed:
    if not records.stray:
        return parsed
    texts = [_text(block, records, k, k).rstrip("\r") for k in records.stray]
    reasons = [_UNCLOSED] * len(texts)

    def numbers() -> tuple[np.ndarray | None, np.ndarray | None]:
        rows, broken = parsed.numbers()
        if rows is None or broken is None:
            return None, None
        return rows, np.append(broken, np.array(records.stray, dtype=np.int64))

    return Parsed(parsed.raw, [*parsed.broken, *texts], [*parsed.reasons, *reasons], numbers, parsed.noticed)


def _first_lines(block: bytes, records: Records) -> np.ndarray:
    """Returns the line numbers, int64, at which records begin, excluding stray and empty ones."""
    begins = np.zeros(len(records.starts), dtype=bool)
    begins[line_numbers(block)] = True
    for first, last in records.spans:
        begins[first + 1 : last + 1] = False
    begins[records.stray] = False
    return np.flatnonzero(begins)


def _type_choices(block: bytes, schema: LogSchema, delimiter: str) -> list[dict[str, pa.DataType]]:
    """Returns the column types to try, fastest first: numbers, then text."""
    types: dict[str, pa.DataType] = {}
    # Columns compared as text keep their text from the file.
    compared = {condition.key for condition in schema.conditions}
    for canonical in schema.read:
        if canonical in compared:
            types[canonical] = pa.string()
        elif schema.id_types.get(canonical) == "int64":
            types[canonical] = pa.int64()
        elif canonical == Columns.RATING:
            types[canonical] = pa.float64()
        elif canonical == Columns.TIMESTAMP and schema.text_types.get(canonical) == "int":
            types[canonical] = pa.int64()
        else:
            types[canonical] = pa.string()
    texts: dict[str, pa.DataType] = dict.fromkeys(types, pa.string())
    # Arrow reads 0x1F as an integer; validation must not depend on the parser.
    if (b"x" in block and b"0x" in block) or (b"X" in block and b"0X" in block):
        return [texts]
    ids_are_numbers = "int64" in schema.id_types.values()
    if ids_are_numbers and not is_canonical(block, delimiter):
        for canonical in schema.id_types:
            types[canonical] = pa.string()
    return [types, texts]


def _arrow(
    block: bytes,
    fragment: Fragment,
    schema: LogSchema,
    delimiter: str,
    types: dict[str, pa.DataType],
    quoted: bool,
) -> tuple[pl.DataFrame, list[pa_csv.InvalidRow]] | None:
    """Reads the block with these types; returns rows and ragged rows, or None if a value does not match its type."""
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
                include_columns=list(schema.read.values()),
                column_types={schema.read[name]: dtype for name, dtype in types.items()},
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    raw = pl.DataFrame({c: pl.Series(c, table.column(name)) for c, name in schema.read.items()})
    return raw, broken


def _parsed(raw: pl.DataFrame, broken: list[pa_csv.InvalidRow], fragment: Fragment, lines: Any) -> Parsed:
    """Combines rows and ragged rows; ``lines()`` returns the line numbers of both together."""
    delimiter = fragment.delimiter or ","
    texts = [row.text.replace(_STAND_IN, delimiter) if len(delimiter) > 1 else row.text for row in broken]
    reasons = [_ragged(row.actual_columns, len(fragment.names)) for row in broken]

    def numbers() -> tuple[np.ndarray | None, np.ndarray | None]:
        at = lines()
        faulty = np.array([row.number - 1 for row in broken if row.number is not None], dtype=np.int64)
        if len(at) != raw.height + len(broken) or len(faulty) != len(broken):
            return None, None
        return np.delete(at, faulty), at[faulty]

    return Parsed(raw, texts, reasons, numbers)


def _ragged(actual: int, expected: int) -> str:
    return f"line has {count_of(actual, 'field')} instead of {expected}"


def _text(block: bytes, records: Records, first: int, last: int) -> str:
    return block[int(records.starts[first]) : int(records.ends[last])].decode()


def _parse_lines(block: bytes, fragment: Fragment, schema: LogSchema, quoting: Quoting) -> Parsed:
    """Parses record by record, for blocks with ambiguous quotes, so that only the faulty lines are bad."""
    wanted = [(canonical, fragment.names.index(name)) for canonical, name in schema.read.items()]
    width = len(fragment.names)
    rows: list[list[str]] = []
    row_lines: list[int] = []
    texts: list[str] = []
    reasons: list[str] = []
    broken_at: list[int] = []
    plain = 0
    example = ""
    split = quoting.split(block)
    ends = dict(split.spans)
    inside = {line for first, last in split.spans for line in range(first + 1, last + 1)}
    for index in line_numbers(block).tolist():
        if index in inside:
            continue
        line = _text(block, split, index, ends.get(index, index)).rstrip("\r")
        fields = quoting.fields(line)
        if fields is None and quoting.quote == "line" and line.count(quoting.delimiter) + 1 == width:
            fields = line.split(quoting.delimiter)
            plain += 1
            example = example or shown(line)
        if fields is not None and len(fields) == width:
            rows.append([fields[position] for _, position in wanted])
            row_lines.append(index)
        else:
            texts.append(line)
            reasons.append(_UNCLOSED if fields is None else _ragged(len(fields), width))
            broken_at.append(index)
    raw = pl.DataFrame(rows, schema=dict.fromkeys((c for c, _ in wanted), pl.String), orient="row")
    noticed = (Notice(what=_STRAY, count=plain, unit="line", example=example),) if plain else ()
    at = np.array(row_lines, np.int64), np.array(broken_at, np.int64)
    return Parsed(raw, texts, reasons, lambda: at, noticed)
