"""JSON lines as raw rows and broken lines: Arrow's parser, and a tolerant one for blocks it refuses."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as pa_json

from distill_at_scale.data.readers.lines import Parsed, line_numbers
from distill_at_scale.data.readers.schema import Fragment, LogSchema

_ARROW: Final[dict[str, pa.DataType]] = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}


def parse_jsonl(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """One block of whole lines, each one JSON object."""
    fields = [(name, _ARROW[schema.text_types.get(c, "string")]) for c, name in schema.columns.items()]
    source: Any = pa.BufferReader(block)
    try:
        table = pa_json.read_json(
            source,
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema(fields),
                newlines_in_values=False,
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowInvalid:
        return _parse_lines(block, schema)
    lines = line_numbers(block)
    if table.num_rows != len(lines):
        # Arrow also takes objects spread over lines, or several in one.
        return _parse_lines(block, schema)
    raw = pl.DataFrame({c: pl.Series(c, table.column(name)) for c, name in schema.columns.items()})
    return Parsed(raw, [], [], lambda: (lines, np.empty(0, dtype=np.int64)))


def _parse_lines(block: bytes, schema: LogSchema) -> Parsed:
    rows: list[list[str | None]] = []
    row_lines: list[int] = []
    broken: list[str] = []
    reasons: list[str] = []
    broken_at: list[int] = []
    for index, line in enumerate(block.decode().split("\n")):
        line = line.rstrip("\r")
        if not line:
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError
            rows.append([_as_text(values.get(name)) for name in schema.columns.values()])
            row_lines.append(index)
        except _WrongValue:
            broken.append(line)
            reasons.append("line has an array, object, boolean or broken text where an id, number or time belongs")
            broken_at.append(index)
        except (ValueError, RecursionError):
            broken.append(line)
            reasons.append("line is not one JSON object")
            broken_at.append(index)
    raw = pl.DataFrame(rows, schema=dict.fromkeys(schema.columns, pl.String), orient="row")
    return Parsed(raw, broken, reasons, lambda: (np.array(row_lines, np.int64), np.array(broken_at, np.int64)))


class _WrongValue(Exception):
    pass


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _WrongValue from None
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongValue
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return str(int(value))
    return repr(value)
