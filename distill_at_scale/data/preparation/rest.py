"""Rows that a filter dropped and that later rows can bring back: written beside the shards, read by an append."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.log_record import RestFile
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.buckets import read_below, read_user_ids
from distill_at_scale.data.preparation.kcore import Alive
from distill_at_scale.data.preparation.parquet import write_parquet

FOLDER = "rest"
_MS = 1_000_000
_LOG = (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT)


def write_rest(
    output: str, work: str, bucket: int, raw: pa.Table, alive: Alive, item_ids: pl.Series
) -> RestFile | None:
    """Writes the rows of a bucket that its shard does not hold; None without such rows.

    Args:
        output, work, bucket: Dataset, folder of the stages and number of the bucket.
        raw: The bucket's sorted rows; ``alive`` says which of them the shard holds.
        item_ids: All item ids of the log, sorted.
    """
    whole = False
    if Columns.TIMESTAMP in raw.column_names:
        whole = bool((raw[Columns.TIMESTAMP].to_numpy() % _MS).any())
    chosen = np.arange(raw.num_rows) if whole else np.flatnonzero(~alive.rows)
    parts = []
    if len(chosen):
        rows = raw.take(pa.array(chosen))
        parts.append(
            pl.DataFrame(
                [
                    read_user_ids(work, bucket).gather(rows[Columns.USER].to_numpy()).alias(Columns.USER_ID),
                    item_ids.gather(rows[Columns.ITEM].to_numpy()).alias(Columns.ITEM_ID),
                    *(pl.Series(name, rows[name].to_numpy()) for name in _LOG if name in rows.column_names),
                ]
            )
        )
    below = read_below(work, bucket)
    if below is not None:
        parts.append(below)
    if not parts:
        return None
    table = restartable.to_table(pl.concat(parts))
    return RestFile(
        bucket=bucket,
        whole=whole,
        file=write_parquet(output, restartable.part(FOLDER, bucket, ".parquet"), table),
    )
