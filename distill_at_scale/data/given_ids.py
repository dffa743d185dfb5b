"""Ids that a caller names: users or items by the log's own ids, from Python or from a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.ids import convert_id
from distill_at_scale.errors import SettingError

_KINDS = {"int64": "whole numbers", "string": "text"}
_PARQUET, _BOM = b"PAR1", "\ufeff".encode()
# A separator of fields that no text has.
_NEVER = "\x1f"
SHOWN = 5
"""Ids that a message names at most."""


def given_ids(values: Any, id_type: str, name: str, distinct: bool = True) -> pl.Series:
    """Ids as a dataset has them.

    Args:
        values: one id, or a list, array, Series or column of ids.
        id_type: ``int64`` or ``string``, as the dataset's manifest says.
        name: ``user_id`` or ``item_id``.
        distinct: whether each id is kept once, at its first place.

    Raises:
        SettingError: a value that cannot be such an id.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        values = [values]
    try:
        column = pl.Series(name, values if isinstance(values, pl.Series | np.ndarray) else list(values))
        found = convert_id(column, id_type) if len(column) else pl.Series(name, [], _dtype(id_type))
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        raise SettingError(f"{name}: the ids are not of one kind; the dataset's are {_KINDS[id_type]}.") from None
    if found.null_count():
        wrong = column.filter(found.is_null())[0]
        raise SettingError(f"{name}: {wrong!r} cannot be one of the dataset's ids, which are {_KINDS[id_type]}.")
    found = found.cast(_dtype(id_type)).alias(name)
    return found.unique(maintain_order=True) if distinct else found


def shown_ids(first: Collection[Any], n: int) -> str:
    """The first of ``n`` ids, as a message names them."""
    some = list(first)[:SHOWN]
    more = f" and {n - len(some):,} more" if n > len(some) else ""
    return ", ".join(map(repr, some)) + more


def _dtype(id_type: str) -> pl.DataType:
    return pl.Int64() if id_type == "int64" else pl.String()


def read_ids(uri: str, id_type: str, name: str) -> pl.Series:
    """The ids in a file: one a line, or the column ``name`` of CSV (told by its first line) or Parquet; each once.

    Args:
        uri: Address of the file.
        id_type, name: as in :func:`given_ids`.

    Raises:
        SettingError: no such file, another form, no ids, or a value that cannot be such an id.
    """
    place = storage.redact(uri)
    if os.path.isdir(uri):
        raise SettingError(f"{place} is a folder; name a file of ids.")
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        raise SettingError(f"{place}: no such file of ids; on a cluster all nodes must see it.") from None
    try:
        if content.startswith(_PARQUET):
            column = pl.read_parquet(content, columns=[name])[name]
        else:
            column = _text_ids(content.removeprefix(_BOM), name)
    except pl.exceptions.ColumnNotFoundError:
        raise SettingError(f"{place}: missing column '{name}'.") from None
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        raise SettingError(f"{place}: not a file of ids ({' '.join(str(error).split())[:200]}).") from None
    column = column.drop_nulls()
    if column.dtype == pl.String:
        column = column.filter(column != "")
    if not len(column):
        raise SettingError(f"{place}: there are no ids in it.")
    try:
        return given_ids(column, id_type, name)
    except SettingError as error:
        raise SettingError(f"{place}: {error}") from None


def _text_ids(content: bytes, name: str) -> pl.Series:
    # Many programs quote names of columns.
    first = content.split(b"\n", 1)[0].decode().strip().replace('"', "")
    separator = next((mark for mark in ",;\t|" if name in first.split(mark)), None)
    if separator is not None:
        return pl.read_csv(content, separator=separator, columns=[name], infer_schema=False)[name]
    # A line is an id, whatever is in it.
    lines = pl.read_csv(
        content, has_header=False, separator=_NEVER, quote_char=None, infer_schema=False, raise_if_empty=False
    )
    return lines.to_series(0).str.strip_chars_end("\r") if lines.width else pl.Series(name, [], pl.String)
