"""Rows of a log with numbers in place of item ids, which take fewer bytes."""

from __future__ import annotations

import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.preparation.item_ids import ItemIds

_NUMBER = "item_number"


def pack(rows: pl.DataFrame, item_ids: ItemIds) -> pl.DataFrame:
    """Packs good rows of a log.

    Args:
        rows: user_id, item_id and any of rating, timestamp (nanoseconds) and split, in any order.
        item_ids: All item ids of the log.
    """
    return pl.DataFrame(
        [pl.Series(_NUMBER, item_ids.ranks(column)) if column.name == Columns.ITEM_ID else column for column in rows]
    )


def unpack(rows: pl.DataFrame, item_ids: pl.Series | None) -> pl.DataFrame:
    """Returns the rows that :func:`pack` was given, and beside each item id its number in a column ``item``; without
    ``item_ids`` the number alone."""
    columns: list[pl.Series] = []
    for column in rows:
        if column.name == _NUMBER:
            if item_ids is not None:
                columns.append(item_ids.gather(column).alias(Columns.ITEM_ID))
            columns.append(column.alias(Columns.ITEM))
        else:
            columns.append(column)
    return pl.DataFrame(columns)
