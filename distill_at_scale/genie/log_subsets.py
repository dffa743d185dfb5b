"""Smaller logs cut out of a log, each by another rule, so that they differ as logs of different services do.

All take and give a frame with the columns user_id, item_id and, where there are any, rating and timestamp.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError


def read_log(dataset: Dataset) -> pl.DataFrame:
    """All rows of all splits of a dataset with the log's own ids; as many columns as the log had."""
    parts = [
        pl.DataFrame(pl.from_arrow(dataset.table(shard))).join(
            dataset.users(shard).select(Columns.USER, Columns.USER_ID), on=Columns.USER, maintain_order="left"
        )
        for shard in range(len(dataset.shards))
    ]
    items = dataset.items().select(Columns.ITEM, Columns.ITEM_ID)
    m = dataset.manifest
    given = [Columns.RATING] * m.has_ratings + [Columns.TIMESTAMP] * m.has_timestamps
    frame = pl.concat(parts).join(items, on=Columns.ITEM, maintain_order="left")
    return frame.select(Columns.USER_ID, Columns.ITEM_ID, *given)


def random_users(log: pl.DataFrame, n: int, seed: int = 0) -> pl.DataFrame:
    """The rows of ``n`` users, drawn by a hash of their ids."""
    users = log[Columns.USER_ID].unique().sort()
    drawn = hashing.combine(hashing.stream("genie/cut users", seed), hashing.hash_ids(users))
    return _of(log, Columns.USER_ID, users.gather(np.argsort(drawn, kind="stable")[:n]))


def active_users(log: pl.DataFrame, n: int, most: bool = True) -> pl.DataFrame:
    """The rows of the ``n`` most (or least) active users; of equals the smaller ids."""
    return _of(log, Columns.USER_ID, _by_rows(log, Columns.USER_ID, most)[:n])


def popular_items(log: pl.DataFrame, n: int, most: bool = True) -> pl.DataFrame:
    """The rows of the ``n`` most (or least) popular items; of equals the smaller ids."""
    return _of(log, Columns.ITEM_ID, _by_rows(log, Columns.ITEM_ID, most)[:n])


def window(log: pl.DataFrame, begin: float, end: float) -> pl.DataFrame:
    """The rows from share ``begin`` to share ``end`` of all rows by time (0 ≤ begin < end ≤ 1).

    Raises:
        DasError: when the log has no times.
    """
    if Columns.TIMESTAMP not in log.columns:
        raise DasError("a window of time was asked for, but the log has no timestamps.")
    ordered = log.sort(Columns.TIMESTAMP, maintain_order=True)
    return ordered[round(begin * log.height) : round(end * log.height)]


def core(log: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest part in which every user and every item has ``k`` rows or more."""
    before = log.height + 1
    while log.height < before:
        before = log.height
        for column in (Columns.USER_ID, Columns.ITEM_ID):
            log = log.filter(pl.len().over(column) >= k)
    return log


def _by_rows(log: pl.DataFrame, column: str, most: bool) -> pl.Series:
    counts = log.group_by(column).len()
    return counts.sort("len", column, descending=[most, False])[column]


def _of(log: pl.DataFrame, column: str, chosen: pl.Series) -> pl.DataFrame:
    return log.filter(pl.col(column).is_in(chosen.implode()))
