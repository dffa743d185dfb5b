"""Rows of whole users in order, without duplicates and without ratings below the minimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.row_order import Keep, distinct_and_ranks, in_time_order, one_of_each


@dataclass(frozen=True)
class SortedRows:
    """Rows sorted by (user, time, tie hash, rating)."""

    users: pl.Series
    """Ids of the users, sorted."""
    columns: Mapping[str, np.ndarray]
    """user (int32, rank in ``users``), item (int32, rank among all item ids), and the others that the log has."""
    below: pl.DataFrame | None = None
    """Rows below the minimum rating that still replace older rows of the same user and item, with their ids."""
    dropped: dict[str, int] = field(default_factory=lambda: {"split": 0, "duplicates": 0, "min_rating": 0})
    """Number of dropped rows by filter: duplicates, min_rating, split (marked −1)."""
    noticed: tuple[Notice, ...] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [users], number of rows of each user before duplicates and ratings below the minimum were dropped."""


def sort_rows(frame: pl.DataFrame, item_ids: ItemIds, keep: Keep, min_rating: float | None, seed: int) -> SortedRows:
    """Sorts and filters rows of whole users.

    Args:
        frame: user_id, item_id or item (number), and any of rating, timestamp (nanoseconds) and split, in any order;
            may be empty. Rows below ``min_rating`` need the id.
        item_ids: All item ids of the log.
        keep, min_rating, seed: As for `build_bucket`.
    """
    n_read = frame.height
    # Rows outside every split are not part of the log: they must not replace duplicates that are.
    if Columns.SPLIT in frame:
        frame = frame.filter(pl.col(Columns.SPLIT) >= 0)
    rows = frame.height
    dropped = {"split": n_read - rows, "duplicates": 0, "min_rating": 0}
    if rows == 0:
        return SortedRows(pl.Series(Columns.USER_ID, [], dtype=pl.Int64), {}, dropped=dropped)
    users, rank = distinct_and_ranks(frame[Columns.USER_ID])
    columns = {
        Columns.USER: rank,
        Columns.ITEM: frame[Columns.ITEM].to_numpy()
        if Columns.ITEM in frame
        else item_ids.ranks(frame[Columns.ITEM_ID]),
        **{c: frame[c].to_numpy() for c in (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT) if c in frame},
    }
    counts = np.bincount(columns[Columns.USER], minlength=len(users))
    order = in_time_order(columns, users, item_ids.ids, seed)
    user, item = columns[Columns.USER][order], columns[Columns.ITEM][order]

    stay = np.ones(rows, dtype=bool)
    noticed: list[Notice] = []
    below = None
    if keep != "all":
        stay &= one_of_each(user, item, keep)
        dropped["duplicates"] = rows - int(stay.sum())
        if Columns.SPLIT in columns and dropped["duplicates"]:
            noticed = _notices_of_splits(user, item, columns[Columns.SPLIT][order], stay, users, item_ids.ids, keep)
    if min_rating is not None:
        enough = columns[Columns.RATING][order] >= min_rating
        if keep != "all" and not enough[stay].all():
            below = frame.drop(Columns.ITEM, strict=False)[order[stay & ~enough]]
        stay &= enough
        # A filter counts only the rows that the previous filters left.
        dropped["min_rating"] = rows - int(stay.sum()) - dropped["duplicates"]
    left = order[stay]
    names = (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT)
    rest = {name: columns[name][left] for name in names if name in columns}
    chosen = {Columns.USER: user[stay], Columns.ITEM: item[stay], **rest}
    return SortedRows(users, chosen, below, dropped, tuple(noticed), counts)


def _notices_of_splits(
    user: np.ndarray,
    item: np.ndarray,
    split: np.ndarray,
    stay: np.ndarray,
    users: pl.Series,
    item_ids: pl.Series,
    keep: Keep,
) -> list[Notice]:
    """Reports dropped duplicates whose kept row is in another split, such as a train and a test row of one item."""
    pair = user.astype(np.int64) << 32 | item
    kept = np.flatnonzero(stay)
    kept = kept[np.argsort(pair[kept])]
    gone = np.flatnonzero(~stay)
    other = gone[split[gone] != split[kept[np.searchsorted(pair[kept], pair[gone])]]]
    if not len(other):
        return []
    example = f"user {users[int(user[other[0]])]}, item {item_ids[int(item[other[0]])]}"
    what = (
        f"dropped for the {keep} row of the same user and item, which is in another split; --duplicates all keeps both"
    )
    return [Notice(what=what, count=len(other), example=example)]
