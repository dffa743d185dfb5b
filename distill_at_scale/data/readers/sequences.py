"""A line per user, the user and then its items in time order: a row per item, its position the time."""

from __future__ import annotations

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.schema import Fragment, LogSchema


def parse_sequences(block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
    """One block of whole lines; the k-th item of a user (from 0) gets the timestamp k."""
    lines = pl.Series("line", block.decode().split("\n"), dtype=pl.String)
    frame = pl.DataFrame({"line": lines.str.strip_chars()}).with_row_index("number").filter(pl.col("line") != "")
    frame = frame.with_columns(pl.col("line").str.replace_all(r"\s+", " ").str.split(" ").alias("tokens"))
    frame = frame.with_columns((pl.col("tokens").list.len().cast(pl.Int64) - 1).alias("items"))
    broken = frame.filter(pl.col("items") == 0)
    whole = frame.filter(pl.col("items") > 0)
    rows = whole.select(
        pl.col("number").cast(pl.Int64),
        pl.col("tokens").list.first().alias(Columns.USER_ID),
        pl.col("tokens").list.slice(1).alias(Columns.ITEM_ID),
        pl.int_ranges(0, pl.col("items")).alias(Columns.TIMESTAMP),
    ).explode(Columns.ITEM_ID, Columns.TIMESTAMP)

    def numbers() -> tuple[np.ndarray, np.ndarray]:
        return rows["number"].to_numpy(), broken["number"].cast(pl.Int64).to_numpy()

    reasons = ["line has a user but no items"] * broken.height
    return Parsed(rows.select(list(schema.columns)), broken["line"].to_list(), reasons, numbers)
