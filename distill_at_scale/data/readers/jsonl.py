"""JSON lines as raw rows and malformed lines: Arrow's parser, and a tolerant one for blocks that Arrow rejects."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as pa_json

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.fields import aliases, known_as
from distill_at_scale.data.readers.json_values import (
    Ids,
    WrongValue,
    arrow_field,
    arrow_schema,
    as_object,
    as_text,
    value_at,
)
from distill_at_scale.data.readers.lines import Parsed, line_numbers
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.errors import DasError

LATE: Final = (Columns.RATING, Columns.TIMESTAMP)
"""Optional columns, whose absence is known only after all objects are read."""
_ARROW: Final[dict[str, pa.DataType]] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


def parse_jsonl(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """Parses one block of whole lines, each one JSON object.

    Raises:
        DasError: An object has a column that the log's first objects lack, and which is therefore not read.
    """
    _refuse_late(block, fragment, schema)
    types = {name: _ARROW[schema.text_types.get(c, "string")] for c, name in schema.read.items()}
    fields = arrow_schema(types)
    # A name with a dot is a path into objects, unless it is a key itself, which only single objects tell.
    keys = any("." in name and json.dumps(name).encode() in block for name in types)
    if fields is None or keys:
        return _parse_lines(block, schema)
    source: Any = pa.BufferReader(block)
    try:
        table = pa_json.read_json(
            source,
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pa_json.ParseOptions(
                explicit_schema=fields,
                newlines_in_values=False,
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowInvalid:
        return _parse_lines(block, schema)
    lines = line_numbers(block)
    if table.num_rows != len(lines):
        # Arrow also accepts objects that span lines, or several on one line.
        return _parse_lines(block, schema)
    raw = pl.DataFrame({c: pl.Series(c, arrow_field(table, name)) for c, name in schema.read.items()})
    return Parsed(raw, [], [], lambda: (lines, np.empty(0, dtype=np.int64)))


def _refuse_late(block: bytes, fragment: Fragment, schema: LogSchema) -> None:
    """Rejects a column that first appears after the sampled objects, rather than losing it silently."""
    if not schema.unread:
        return
    # This finds well-known names in every spelling; a byte search is far faster than parsing.
    plain = block.lower().replace(b"_", b"")
    for canonical in schema.unread:
        names = [f'"{alias}"'.encode() for alias in aliases(canonical)]
        if not any(name in plain for name in names):
            continue
        for line in block.split(b"\n"):
            key = _key_of(line, canonical)
            if key is not None:
                raise DasError(
                    f"{storage.redact(fragment.uri)}: an object has '{key}', which the first objects of the log do not "
                    f"have ({line[:80].decode(errors='replace')}); read it with --map {canonical}={key} (objects "
                    f"without it are bad then), or ignore it with --map {canonical}= (empty)."
                )


def _key_of(line: bytes, canonical: str) -> str | None:
    """Returns an object's key for a canonical column; None if it has no such key with a value."""
    if not any(f'"{alias}"'.encode() in line.lower().replace(b"_", b"") for alias in aliases(canonical)):
        return None
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = values if isinstance(values, dict) else {}
    plain = {key: value for key, value in known.items() if value is not None and not isinstance(value, dict | list)}
    return next((key for key in plain if known_as(key) == canonical), None)


def _parse_lines(block: bytes, schema: LogSchema) -> Parsed:
    rows: list[list[str | None]] = []
    row_lines: list[int] = []
    broken: list[str] = []
    reasons: list[str] = []
    broken_at: list[int] = []
    ids = Ids(schema)
    for index, line in enumerate(block.decode().split("\n")):
        line = line.rstrip("\r")
        if not line:
            continue
        try:
            values = json.loads(line, object_pairs_hook=as_object)
            if not isinstance(values, dict):
                raise ValueError
            own = [ids.text(c, value_at(values, name)) for c, name in schema.columns.items()]
            rows.append([*own, *(_compared(value_at(values, name)) for name in schema.extra.values())])
            row_lines.append(index)
        except WrongValue as error:
            broken.append(line)
            reasons.append(str(error))
            broken_at.append(index)
        except (ValueError, RecursionError):
            broken.append(line)
            reasons.append("line is not one JSON object")
            broken_at.append(index)
    raw = pl.DataFrame(rows, schema=dict.fromkeys(schema.read, pl.String), orient="row")
    at = np.array(row_lines, np.int64), np.array(broken_at, np.int64)
    return Parsed(raw, broken, reasons, lambda: at, tuple(ids.noticed()))


def _compared(value: Any) -> str | None:
    """Converts a value that is only compared with others to text; arrays and objects equal nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return as_text(value)
    except WrongValue:
        return None
