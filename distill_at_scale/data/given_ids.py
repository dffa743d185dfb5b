"""Ids that a caller names: users or items by the log's own ids, from Python or from a file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.data.ids import convert_id
from distill_at_scale.errors import SettingError

_KINDS = {"int64": "whole numbers", "string": "text"}
SHOWN = 5
"""ids that a message names at most"""


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
