"""Lines with one user and its items in time order: one row per item, whose position stands for the time.

Only ASCII blanks separate tokens; a no-break space is part of an id.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.schema import Fragment, LogSchema

_BLANKS: Final = " \t\r\f\v"
_SEPARATOR: Final = re.compile(f"[{_BLANKS}]+")
_WITHOUT: Final = "a user without items is skipped"
_AGAIN: Final = "a user has another line: positions start again at 0, so some of this user's items tie in time"


def parse_sequences(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """Parses one block of whole lines; the k-th item of a user (from 0) gets the timestamp k."""
    lines = pl.Series("line", block.decode().split("\n"), dtype=pl.String)
    frame = pl.DataFrame({"line": lines.str.strip_chars(_BLANKS)}).with_row_index("number").filter(pl.col("line") != "")
    frame = frame.with_columns(pl.col("line").str.replace_all(f"[{_BLANKS}]+", " ").str.split(" ").alias("tokens"))
    frame = frame.with_columns((pl.col("tokens").list.len().cast(pl.Int64) - 1).alias("items"))
    whole = frame.filter(pl.col("items") > 0)
    rows = whole.select(
        pl.col("number").cast(pl.Int64),
        pl.col("tokens").list.first().alias(Columns.USER_ID),
        pl.col("tokens").list.slice(1).alias(Columns.ITEM_ID),
        pl.int_ranges(0, pl.col("items")).alias(Columns.TIMESTAMP),
    ).explode(Columns.ITEM_ID, Columns.TIMESTAMP)

    def numbers() -> tuple[np.ndarray, np.ndarray]:
        return rows["number"].to_numpy(), np.empty(0, dtype=np.int64)

    noticed = []
    without = frame.filter(pl.col("items") == 0)["line"]
    if len(without):
        noticed.append(Notice(what=_WITHOUT, count=len(without), unit="line", example=shown(without[0])))
    users = whole["tokens"].list.first()
    again = users.filter(users.is_first_distinct().not_())
    if len(again):
        noticed.append(Notice(what=_AGAIN, count=len(again), unit="line", example=shown(again[0])))
    return Parsed(rows.select(list(schema.columns)), [], [], numbers, tuple(noticed))


def tokens(line: str) -> list[str]:
    """Splits a line into the user and the items."""
    return [token for token in _SEPARATOR.split(line) if token]
