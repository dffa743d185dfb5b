"""Rows of a log in fewer bytes: item ids as numbers, and times as offsets in their own unit.

Numbers of items compress to 3 bytes and times to 4, of 8 each; ids of users in no order do not compress.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.preparation.row_order import ranks

_NUMBER = "item_number"
# A time is begin + unit × (2³² high + low); columns of one value, or of zeros, compress to nothing.
_BEGIN, _UNIT, _HIGH, _LOW = "time_begin", "time_unit", "time_high", "time_low"
_UNITS = (1_000_000_000, 1_000_000, 1_000, 1)


def pack(rows: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """Packs good rows of a log.

    Args:
        rows: user_id, item_id and any of rating, timestamp (nanoseconds) and split, in any order.
        item_ids: All item ids of the log, sorted.
    """
    columns: list[pl.Series] = []
    for column in rows:
        if column.name == Columns.ITEM_ID:
            columns.append(pl.Series(_NUMBER, ranks(column, item_ids)))
        elif column.name == Columns.TIMESTAMP:
            columns += _pack_times(column.to_numpy())
        else:
            columns.append(column)
    return pl.DataFrame(columns)


def unpack(rows: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """Returns the rows that :func:`pack` was given, and beside each item id its number in a column ``item``."""
    columns: list[pl.Series] = []
    for column in rows:
        if column.name == _NUMBER:
            columns.append(item_ids.gather(column).alias(Columns.ITEM_ID))
            columns.append(column.alias(Columns.ITEM))
        elif column.name == _BEGIN:
            begin, unit, high, low = (rows[name].to_numpy().astype(np.int64) for name in (_BEGIN, _UNIT, _HIGH, _LOW))
            columns.append(pl.Series(Columns.TIMESTAMP, begin + unit * ((high << 32) | low)))
        elif column.name not in (_UNIT, _HIGH, _LOW):
            columns.append(column)
    return pl.DataFrame(columns)


def _pack_times(times: np.ndarray) -> list[pl.Series]:
    unit = next(unit for unit in _UNITS if not (times % unit).any())
    begin = times.min(initial=np.iinfo(np.int64).max) if len(times) else np.int64(0)
    # Modulo 2⁶⁴, as the sum is: the span of all times may exceed an int64.
    offset = (times.view(np.uint64) - begin.view(np.uint64)) // np.uint64(unit)
    return [
        pl.Series(_BEGIN, np.full(len(times), begin)),
        pl.Series(_UNIT, np.full(len(times), unit, dtype=np.int32)),
        pl.Series(_HIGH, (offset >> np.uint64(32)).astype(np.uint32)),
        pl.Series(_LOW, (offset & np.uint64(0xFFFFFFFF)).astype(np.uint32)),
    ]
