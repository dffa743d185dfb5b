"""Subsets of a log by different rules, so that they differ as the logs of different services do.

All functions take and return a frame with the columns user_id, item_id and, if the log has them, rating and timestamp.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError


def read_log(dataset: Dataset) -> pl.DataFrame:
    """Returns all rows of all splits of a dataset with the log's original ids and columns."""
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
    """Returns the rows of ``n`` users, drawn by a hash of their ids."""
    users = log[Columns.USER_ID].unique().sort()
    drawn = hashing.combine(hashing.stream("genie/cut users", seed), hashing.hash_ids(users))
    return _of(log, Columns.USER_ID, users.gather(np.argsort(drawn, kind="stable")[:n]))


def active_users(log: pl.DataFrame, n: int, most: bool = True) -> pl.DataFrame:
    """Returns the rows of the ``n`` most (or least) active users; ties go to the smaller ids."""
    return _of(log, Columns.USER_ID, _by_rows(log, Columns.USER_ID, most)[:n])


def popular_items(log: pl.DataFrame, n: int, most: bool = True) -> pl.DataFrame:
    """Returns the rows of the ``n`` most (or least) popular items; ties go to the smaller ids."""
    return _of(log, Columns.ITEM_ID, _by_rows(log, Columns.ITEM_ID, most)[:n])


def window(log: pl.DataFrame, begin: float, end: float) -> pl.DataFrame:
    """Returns the rows from share ``begin`` to share ``end`` of all rows by time (0 ≤ begin < end ≤ 1).

    Raises:
        DasError: The log has no timestamps.
    """
    if Columns.TIMESTAMP not in log.columns:
        raise DasError("a time window needs timestamps, but the log has no timestamps.")
    ordered = log.sort(Columns.TIMESTAMP, maintain_order=True)
    return ordered[round(begin * log.height) : round(end * log.height)]


def k_core(log: pl.DataFrame, k: int) -> pl.DataFrame:
    """Returns the k-core: the largest subset in which every user and every item has at least ``k`` rows."""
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
