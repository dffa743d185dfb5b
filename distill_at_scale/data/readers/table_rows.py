"""Record batches of tables as validated rows: struct fields resolved, lists exploded, types simplified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from distill_at_scale.data import storage
from distill_at_scale.data.readers import tables
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.selection import Condition, select_rows
from distill_at_scale.data.readers.tables import find_column, is_bytes, is_list, is_text
from distill_at_scale.data.readers.time_watch import notice_zones
from distill_at_scale.data.row_validation import empty_bad, notice_rows, quarantined, validate_rows

Arrays = dict[str, pa.Array]
"""Canonical name or key → column of a record batch."""


def read_batches(batches: Iterable[pa.RecordBatch], fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Validates the rows of a file's record batches; lists are exploded into one row per value."""
    own = {c: name for c, name in schema.read.items() if name not in fragment.partitions}
    row = fragment.first_row
    for batch in batches:
        arrays: Arrays = {}
        deeper: dict[str, list[str]] = {}
        for canonical, name in own.items():
            top, steps = find_column(batch.schema, name)
            arrays[canonical], deeper[canonical] = _walk(batch.column(top), steps)
        if any(is_list(array.type) for array in arrays.values()):
            numbers = None if row is None else row + np.arange(batch.num_rows)
            scalar = [c for c in schema.conditions if c.key not in arrays or not is_list(arrays[c.key].type)]
            if scalar:
                arrays, numbers, left_out = _whole_rows(arrays, scalar, fragment, schema, numbers)
                yield left_out
            yield from _exploded(arrays, deeper, fragment, schema, numbers)
        else:
            yield _validated(arrays, fragment, schema, row)
        row = None if row is None else row + batch.num_rows


def column_values(batch: pa.RecordBatch, name: str) -> Any:
    """Returns the values of a column or nested field; lists are flattened."""
    top, steps = find_column(batch.schema, name)
    array, steps = _walk(batch.column(top), steps)
    while is_list(array.type):
        array, steps = _walk(pc.list_flatten(array), steps)
    return array


def list_lengths(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Returns the lengths of a column's lists, int64; 0 for null."""
    top, steps = find_column(batch.schema, name)
    return _lengths(_walk(batch.column(top), steps)[0])


def _lengths(array: Any) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)


def _walk(array: Any, steps: list[str]) -> tuple[Any, list[str]]:
    """Descends the fields of structs down to the first list; the remaining ``steps`` are inside it."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif steps and pa.types.is_struct(array.type):
            array, steps = pc.struct_field(array, steps[0]), steps[1:]
        else:
            return array, steps


def _exploded(
    arrays: Arrays,
    deeper: dict[str, list[str]],
    fragment: Fragment,
    schema: LogSchema,
    numbers: np.ndarray | None,
) -> Iterator[Batch]:
    """Explodes lists into rows, in batches of about ``BATCH_ROWS``; rows with uneven or empty lists are bad."""
    lists = [c for c, array in arrays.items() if is_list(array.type)]
    lengths = {c: _lengths(arrays[c]) for c in lists}
    length = lengths[lists[0]]
    even = np.ones(len(length), dtype=bool)
    for other in lists[1:]:
        even &= lengths[other] == length
    whole = even & (length > 0)
    if not whole.all():
        at = np.flatnonzero(~whole)
        names = [schema.extra.get(c, c) for c in lists]
        empty, uneven = f"{names[0]} is an empty list", f"the lists of {' and '.join(names)} have different lengths"
        reasons = pl.Series([empty if even[k] else uneven for k in at], dtype=pl.String)
        scalars = {c: array.take(pa.array(at)) for c, array in arrays.items() if c not in lists}
        rows = pl.Series("row", [None] * len(at) if numbers is None else numbers[at], dtype=pl.Int64)
        bad = quarantined(_frame(scalars, schema), reasons, storage.redact(fragment.uri), rows)
        yield Batch(pl.DataFrame(schema=schema.good_schema()), bad)
    kept = np.flatnonzero(whole)
    ends = np.cumsum(length[kept])
    start = 0
    while start < len(kept):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + tables.BATCH_ROWS, side="right")))
        taken = kept[start:stop]
        index = np.repeat(taken, length[taken])
        flat = {}
        for c, array in arrays.items():
            if c in lists:
                flat[c], _ = _walk(pc.list_flatten(array.take(pa.array(taken))), deeper[c])
            else:
                flat[c] = array.take(pa.array(index))
        yield _validated(flat, fragment, schema, None if numbers is None else numbers[index])
        start = stop


def _whole_rows(
    arrays: Arrays,
    conditions: Sequence[Condition],
    fragment: Fragment,
    schema: LogSchema,
    numbers: np.ndarray | None,
) -> tuple[Arrays, np.ndarray | None, Batch]:
    """Applies the conditions on columns without lists before the lists are exploded."""
    keys = {condition.key for condition in conditions}
    index = pl.DataFrame({"": np.arange(len(next(iter(arrays.values()))))})
    scalars = _frame({c: array for c, array in arrays.items() if c in keys}, schema)
    asked = select_rows(add_partitions(pl.concat([index, scalars], how="horizontal"), fragment, schema), conditions)
    if asked.kept is not None:
        arrays = {c: array.take(pa.array(asked.kept)) for c, array in arrays.items()}
        numbers = None if numbers is None else numbers[asked.kept]
    none = pl.DataFrame(schema=schema.good_schema())
    return arrays, numbers, Batch(none, empty_bad(), asked.noticed, asked.left_out, asked.seen)


def _validated(arrays: Arrays, fragment: Fragment, schema: LogSchema, rows: int | np.ndarray | None) -> Batch:
    raw = add_partitions(_frame(arrays, schema), fragment, schema)
    asked = select_rows(raw, schema.conditions)
    if asked.kept is not None and rows is not None:
        rows = rows + asked.kept if isinstance(rows, int) else rows[asked.kept]
    good, bad = validate_rows(asked.raw, schema.id_types, schema.times, storage.redact(fragment.uri), rows)
    notices = (*asked.noticed, *notice_zones(asked.raw, schema), *notice_rows(good))
    return Batch(good, bad, notices, asked.left_out, asked.seen)


def _frame(arrays: Arrays, schema: LogSchema) -> pl.DataFrame:
    return pl.DataFrame({c: pl.Series(c, simple(array, c in schema.hex_ids)) for c, array in arrays.items()})


def add_partitions(raw: pl.DataFrame, fragment: Fragment, schema: LogSchema) -> pl.DataFrame:
    """Adds the partition columns from the file's folder names, such as ``dt=2026-01-01``, to ``raw``."""
    values = {c: fragment.partitions[name] for c, name in schema.read.items() if name in fragment.partitions}
    return raw.with_columns(pl.lit(value, pl.String).alias(c) for c, value in values.items()) if values else raw


def simple(array: Any, as_hex: bool = False) -> Any:
    """Converts to types that Polars accepts: dictionaries decoded, bytes as UTF-8 (or hex), half floats widened."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        return array.cast(pa.float32())
    if is_bytes(array.type):
        if as_hex:
            return pl.Series(array.cast(pa.large_binary())).bin.encode("hex")
        if pa.types.is_fixed_size_binary(array.type):
            array = array.cast(pa.binary())
        return pc.cast(array, pa.large_string())
    if is_text(array.type):
        # Neither Parquet nor Arrow guarantees that strings are valid UTF-8, and Polars relies on it.
        array.validate(full=True)
    return array
