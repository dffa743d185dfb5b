"""Second part of prepare: all rows of a bucket's users, sorted and de-duplicated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import hashing, recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.fragments import read_bucket
from distill_at_scale.data.preparation.ordering import order_by

FOLDER = "buckets"
Keep = Literal["last", "first", "all"]


def build_bucket(
    work: str,
    bucket: int,
    n_buckets: int,
    n_dealt: int,
    n_fragments: int,
    item_ids: pl.Series,
    keep: Keep,
    min_rating: float | None,
    seed: int,
    starts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Gathers bucket ``bucket`` of ``n_buckets`` from the fragments (dealt into ``n_dealt``) and orders it.

    The rows are sorted by (user id, timestamp, tie hash, rating): whatever order they came in, the result is the
    same, and of a user's rows with the same time none comes last because of its id. Rows marked −1 in a split column
    go first. Of several rows of one user and item ``keep`` says which stay: ``last`` (by time, then the highest
    rating), ``first`` or ``all``. Rows below ``min_rating`` go after that, so a user's last word counts.

    Writes user (int32, rank in this bucket) · item (int32, rank in ``item_ids``) · rating · timestamp
    (nanoseconds) [· split], and beside it the users' ids in the order of their ranks.

    Returns:
        rows in, counts of what went: duplicates, min_rating, split (rows marked −1), and what is odd about them.
    """
    folder = storage.join(work, FOLDER)

    def build() -> dict[str, Any]:
        frame = read_bucket(work, n_fragments, n_dealt, bucket, n_buckets, starts)
        return _order(folder, bucket, frame, item_ids, keep, min_rating, seed)

    return restartable.once(restartable.part(folder, bucket, ".json"), build)


def _order(
    folder: str,
    bucket: int,
    frame: pl.DataFrame,
    item_ids: pl.Series,
    keep: Keep,
    min_rating: float | None,
    seed: int,
) -> dict[str, Any]:
    n_read = frame.height
    # What is in no split is no part of the log: it must not take the place of a row that is.
    if Columns.SPLIT in frame:
        frame = frame.filter(pl.col(Columns.SPLIT) >= 0)
    rows = frame.height
    dropped = {"split": n_read - rows, "duplicates": 0, "min_rating": 0}
    if rows == 0:
        return {"rows": n_read, "kept": 0, "users": 0, "dropped": dropped, "noticed": []}
    users = frame[Columns.USER_ID].unique().sort()
    columns = {
        Columns.USER: _ranks(frame[Columns.USER_ID], users),
        Columns.ITEM: _ranks(frame[Columns.ITEM_ID], item_ids),
        **{c: frame[c].to_numpy() for c in (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT) if c in frame},
    }
    order = _in_time_order(columns, users, item_ids, seed)
    columns = {name: values[order] for name, values in columns.items()}

    stay = np.ones(rows, dtype=bool)
    noticed: list[Notice] = []
    if keep != "all":
        stay &= _one_of_each(columns[Columns.USER], columns[Columns.ITEM], keep)
        dropped["duplicates"] = rows - int(stay.sum())
        if Columns.SPLIT in columns and dropped["duplicates"]:
            noticed = _notices_of_splits(columns, stay, users, item_ids, keep)
    if min_rating is not None:
        stay &= columns[Columns.RATING] >= min_rating
        # Only what the filter before it left counts as taken by a filter.
        dropped["min_rating"] = rows - int(stay.sum()) - dropped["duplicates"]

    names = (Columns.USER, Columns.ITEM, Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT)
    table = pa.table({name: columns[name][stay] for name in names if name in columns})
    restartable.write_arrow(restartable.part(folder, bucket, ".arrow"), table)
    restartable.write_arrow(
        restartable.part(folder, bucket, ".users.arrow"), restartable.to_table(pl.DataFrame({Columns.USER_ID: users}))
    )
    return {
        "rows": n_read,
        "kept": int(stay.sum()),
        "users": len(users),
        "dropped": dropped,
        "noticed": [notice.model_dump() for notice in noticed],
    }


def _notices_of_splits(
    columns: dict[str, np.ndarray], stay: np.ndarray, users: pl.Series, item_ids: pl.Series, keep: Keep
) -> list[Notice]:
    """Of the duplicates, those that went for a row of another split: a train and a test row of one item, say."""
    user, item, split = (columns[name] for name in (Columns.USER, Columns.ITEM, Columns.SPLIT))
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


def _in_time_order(columns: dict[str, np.ndarray], users: pl.Series, item_ids: pl.Series, seed: int) -> np.ndarray:
    """int64 [rows]: the order by user and time, and of equal times by tie hash, rating and split."""
    user = columns[Columns.USER]
    time = columns.get(Columns.TIMESTAMP)
    if time is None:
        order = order_by(user)
        same = user[order[1:]] == user[order[:-1]]
    else:
        time = _coarsest(time)
        order = order_by(user, time)
        same = (user[order[1:]] == user[order[:-1]]) & (time[order[1:]] == time[order[:-1]])
    if not same.any():
        return order
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    where = np.flatnonzero(tied)
    rows = order[where]
    run = np.concatenate(([0], np.cumsum(~same)))[where]
    item = columns[Columns.ITEM][rows]
    draw = _tie_hash(user[rows], item, users, item_ids, seed)
    # The item itself only matters if two items of a user had the same 64 bits.
    last = [columns[c][rows] for c in (Columns.RATING, Columns.SPLIT) if c in columns]
    order[where] = rows[order_by(run, (draw >> np.uint64(1)).view(np.int64), item, *last)]
    return order


def _tie_hash(user: np.ndarray, item: np.ndarray, users: pl.Series, item_ids: pl.Series, seed: int) -> np.ndarray:
    """uint64 [rows]: a draw by user id and item id that settles which of a user's rows with the same time is first.

    Ids must not decide it: of a day's purchases the largest item id would always be the row that is held out.
    """
    distinct, at = np.unique(item, return_inverse=True)
    item_hash = hashing.hash_ids(item_ids.gather(distinct))[at]
    return hashing.combine(hashing.stream("prepare/ties", seed), hashing.hash_ids(users)[user], item_hash)


def _coarsest(times: np.ndarray) -> np.ndarray:
    """Nanoseconds in the coarsest unit that loses nothing, so that user and time fit into one sortable word."""
    for unit in (1_000_000_000, 1_000_000, 1_000):
        if not (times[:1000] % unit).any() and not (times % unit).any():
            return times // unit
    return times


def _one_of_each(user: np.ndarray, item: np.ndarray, keep: Keep) -> np.ndarray:
    """bool [rows]: of rows with the same user and item only the first or last, in the order they are in."""
    pair = user.astype(np.int64) << 32 | item
    chosen = np.ones(len(pair), dtype=bool)
    grouped = np.sort(pair)
    if not (grouped[1:] == grouped[:-1]).any():
        return chosen
    order = np.argsort(pair, kind="stable")
    grouped = pair[order]
    same = grouped[1:] == grouped[:-1]
    if keep == "last":
        chosen[order[:-1][same]] = False
    else:
        chosen[order[1:][same]] = False
    return chosen


def _ranks(ids: pl.Series, sorted_ids: pl.Series) -> np.ndarray:
    """int32 position of each id in ``sorted_ids``, which holds every one of them."""
    # Ids repeat, so a search once a distinct id and a small hash join beat a search for every row.
    distinct = ids.unique()
    table = pl.DataFrame({"id": distinct, "rank": sorted_ids.search_sorted(distinct).cast(pl.Int32)})
    return pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["rank"].to_numpy()


def read_columns(work: str, bucket: int, columns: list[str] | None = None) -> tuple[pa.Table, int]:
    """A bucket's rows (all columns or those named), and its number of users."""
    folder = storage.join(work, FOLDER)
    record = recorded.read_json(restartable.part(folder, bucket, ".json"), restartable.FIX)
    if record["users"] == 0:
        none = pa.array([], pa.int32())
        return pa.table({Columns.USER: none, Columns.ITEM: none}), 0
    return restartable.read_arrow(restartable.part(folder, bucket, ".arrow"), columns), record["users"]


def read_user_ids(work: str, bucket: int) -> pl.Series:
    """The ids of a bucket's users, in the order of their ranks."""
    table = restartable.read_arrow(restartable.part(storage.join(work, FOLDER), bucket, ".users.arrow"))
    return pl.DataFrame(pl.from_arrow(table))[Columns.USER_ID]
