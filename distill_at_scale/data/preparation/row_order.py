"""The order of a log's rows within each user, and which of several rows of one user and item counts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.ordering import order_and_ties, order_by

Keep = Literal["last", "first", "all"]
# Ids are looked up by their value where their range is at most this number times that of the rows.
_DENSE = 4
# Runs of equal ids a row at most, where each run is looked up once; and rows that show whether there are more.
_RUNS, _LOOKED_AT = 0.7, 1024


def in_time_order(columns: dict[str, np.ndarray], users: pl.Series, item_ids: pl.Series, seed: int) -> np.ndarray:
    """int64 [rows]: the order by user and time, and of equal times by tie hash, rating and split.

    Args:
        columns: ``user`` and ``item`` (int32, positions in ``users`` and ``item_ids``), and any of ``timestamp``
            (nanoseconds), ``rating`` and ``split``.
        users, item_ids: ids.
        seed: Seed of the draw that breaks ties.
    """
    user, time = columns[Columns.USER], columns.get(Columns.TIMESTAMP)
    if time is None:
        # All rows of a user are tied.
        return order_by(user, *_tie_keys(columns, slice(None), users, item_ids, seed))
    order, same = order_and_ties(user, _coarsest(time))
    if same.any():
        group, tied = ragged.runs(same)
        where = np.flatnonzero(tied)
        rows = order[where]
        order[where] = rows[order_by(group[where], *_tie_keys(columns, rows, users, item_ids, seed))]
    return order


def _tie_keys(
    columns: dict[str, np.ndarray], rows: np.ndarray | slice, users: pl.Series, item_ids: pl.Series, seed: int
) -> list[np.ndarray]:
    """What settles which of a user's rows with the same time is first: a draw by user id and item id, then the rest.

    Ids must not decide it: of a day's purchases the largest item id would always be the row that is held out.
    """
    user, item = columns[Columns.USER][rows], columns[Columns.ITEM][rows]
    of_user = hashing.combine(hashing.stream("prepare/ties", seed), hashing.hash_ids(users))
    draw = hashing.append(of_user[user], hashing.mix(_item_hash(item, item_ids)))
    # The item itself only matters if two items of a user had the same 63 bits.
    last = [columns[c][rows] for c in (Columns.RATING, Columns.SPLIT) if c in columns]
    return [(draw >> np.uint64(1)).view(np.int64), item, *last]


def _item_hash(item: np.ndarray, item_ids: pl.Series) -> np.ndarray:
    """uint64 [rows]: the hash of the id at each position ``item`` of ``item_ids``."""
    if item_ids.dtype != pl.String:
        return hashing.hash_ids(pl.Series(item_ids.to_numpy()[item]))
    # A string's hash is slow: each distinct one's is computed once.
    distinct, at = np.unique(item, return_inverse=True)
    return hashing.hash_ids(item_ids.gather(distinct))[at]


def _coarsest(times: np.ndarray) -> np.ndarray:
    """Nanoseconds in the coarsest unit that loses nothing, so that user and time fit into one sortable word."""
    for unit in (1_000_000_000, 1_000_000, 1_000):
        if not (times[:1000] % unit).any():
            # Division is several times faster than the remainder.
            units = times // unit
            if np.array_equal(units * unit, times):
                return units
    return times


def one_of_each(user: np.ndarray, item: np.ndarray, keep: Keep) -> np.ndarray:
    """bool [rows]: of rows with the same user and item only the first or last, in the order they are in."""
    chosen = np.ones(len(user), dtype=bool)
    order, same = order_and_ties(user, item)
    if keep == "last":
        chosen[order[:-1][same]] = False
    else:
        chosen[order[1:][same]] = False
    return chosen


def distinct_ids(ids: pl.Series) -> pl.Series:
    """The distinct ids, in no particular order."""
    starts = _starts_of_runs(ids)
    if starts is not None:
        ids = pl.Series(ids.name, ids.to_numpy()[starts])
    if ids.dtype == pl.Int64 and len(ids):
        values = ids.to_numpy()
        low, high = int(values.min()), int(values.max())
        if high - low < _DENSE * len(ids):
            seen = np.zeros(high - low + 1, dtype=bool)
            seen[values - low] = True
            return pl.Series(ids.name, np.flatnonzero(seen) + low)
    return ids.unique()


def _starts_of_runs(ids: pl.Series) -> np.ndarray | None:
    """Positions at which a run of equal ids begins, where runs are long enough to be worth it; else None."""
    if ids.dtype != pl.Int64 or not len(ids):
        return None
    values = ids.to_numpy()
    head = values[:_LOOKED_AT]
    if np.count_nonzero(head[1:] != head[:-1]) > (_RUNS + 0.1) * len(head):
        return None
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return starts if len(starts) < _RUNS * len(ids) else None


def distinct_and_ranks(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """The distinct ids, sorted, and the int32 position of each id among them."""
    starts = _starts_of_runs(ids)
    if starts is not None:
        distinct, of_runs = distinct_and_ranks(pl.Series(ids.name, ids.to_numpy()[starts]))
        return distinct, np.repeat(of_runs, np.diff(starts, append=len(ids)))
    if ids.dtype != pl.Int64 or _dense(ids):
        distinct = distinct_ids(ids).sort()
        return distinct, ranks(ids, distinct)
    coded = ids.to_arrow().dictionary_encode()
    distinct = pl.Series(ids.name, coded.dictionary)
    order = distinct.arg_sort()
    rank_of = np.empty(len(order), dtype=np.int32)
    rank_of[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return distinct.gather(order), rank_of[coded.indices.to_numpy()]


def _dense(ids: pl.Series) -> bool:
    """Whether int64 ids are looked up by their value."""
    values = ids.to_numpy()
    return not len(values) or int(values.max()) - int(values.min()) < _DENSE * len(values)


def ranks(ids: pl.Series, sorted_ids: pl.Series) -> np.ndarray:
    """int32 position of each id in ``sorted_ids``, which holds every one of them."""
    starts = _starts_of_runs(ids)
    if starts is not None:
        heads = pl.Series(ids.to_numpy()[starts])
        return np.repeat(ranks(heads, sorted_ids), np.diff(starts, append=len(ids)))
    if ids.dtype == pl.Int64 and len(ids):
        low, high = int(sorted_ids[0]), int(sorted_ids[-1])
        if high - low < _DENSE * len(ids):
            rank_of = np.zeros(high - low + 1, dtype=np.int32)
            rank_of[sorted_ids.to_numpy() - low] = np.arange(len(sorted_ids), dtype=np.int32)
            found: np.ndarray = rank_of[ids.to_numpy() - low]
            return found
        coded = ids.to_arrow().dictionary_encode()
        distinct, codes = coded.dictionary.to_numpy(), coded.indices.to_numpy()
        # In order, a search finds what it compares with in the cache.
        order = pl.Series(distinct).arg_sort().to_numpy()
        rank_of = np.empty(len(distinct), dtype=np.int32)
        rank_of[order] = np.searchsorted(sorted_ids.to_numpy(), distinct[order])
        return rank_of[codes]
    # Ids repeat, so a search once a distinct id and a small hash join beat a search for every row.
    distinct = ids.unique()
    table = pl.DataFrame({"id": distinct, "rank": sorted_ids.search_sorted(distinct).cast(pl.Int32)})
    return pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["rank"].to_numpy()
