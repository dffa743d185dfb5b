"""Numbers of a shard's rows, from where they lie: each has one, and it is finite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.row_values.dealt import DealtValues
from distill_at_scale.data.row_values.files import PIECE, VALUE, ValueFiles
from distill_at_scale.errors import DasError

ValueSource = ValueFiles | DealtValues
"""Where numbers lie: in files, which every shard reads as a whole, or dealt by user."""


@dataclass(frozen=True)
class RowValues:
    """Numbers of one shard's rows.

    Attributes:
        values: float64 [rows], or [users] if they are of users; 0 for users without rows.
        of_users: Whether they are of users.
    """

    values: np.ndarray
    of_users: bool


def read_values(
    dataset: Dataset, shard: int, owner: np.ndarray, row_items: np.ndarray, source: ValueSource, rows: str
) -> RowValues:
    """Reads the numbers of some rows of a shard.

    Args:
        owner: int64 [rows], position of each row's user in the shard.
        row_items: int32 [rows], item of each row.
        source: Where the numbers lie.
        rows: What the rows are, for messages, such as "train rows".

    Raises:
        DasError: A number is missing, not finite, or given twice; the message names the first user and item.
    """
    users, n_items, files = dataset.users(shard)[Columns.USER_ID], dataset.n_items, source.files
    found = _of_shard(dataset, users, source)
    of_users = found.item is None
    # A row as one number: position of the user times items, plus the item.
    wanted = np.unique(owner) if of_users else owner * n_items + row_items
    given = found.user if found.item is None else found.user * n_items + found.item
    order = np.argsort(given, kind="stable")
    given, values = given[order], found.value[order]

    def named(key: int) -> str:
        if of_users:
            return f"user {users[key]!r}"
        return f"user {users[key // n_items]!r} and item {dataset.item_ids()[key % n_items]!r}"

    place, column = storage.redact(files.uri), files.column
    if (twice := np.flatnonzero(given[1:] == given[:-1])).size:
        raise DasError(f"{place}: {named(int(given[twice[0]]))} has several values of '{column}'; keep one of them.")
    at = np.searchsorted(given, wanted)
    missing = np.ones(len(wanted), dtype=bool)
    inside = at < len(given)
    missing[inside] = given[at[inside]] != wanted[inside]
    if missing.any():
        raise DasError(
            f"{place}: {int(missing.sum()):,} of {len(wanted):,} {'users' if of_users else rows} of shard {shard} have "
            f"no value of '{column}'; the first is of {named(int(wanted[np.argmax(missing)]))}. Add them, or prepare "
            "the log without these rows."
        )
    if not of_users:
        return RowValues(values[at], False)
    every = np.zeros(len(users))
    every[wanted] = values[at]
    return RowValues(every, True)


@dataclass(frozen=True)
class _Found:
    """Numbers of a shard's users as they lie in the files: positions int64 [n], item numbers, values float64 [n]."""

    user: np.ndarray
    item: np.ndarray | None
    value: np.ndarray


def _of_shard(dataset: Dataset, users: pl.Series, source: ValueSource) -> _Found:
    known = pl.DataFrame({Columns.USER_ID: users, Columns.USER: np.arange(len(users))})
    names = [Columns.USER, VALUE] + [Columns.ITEM] * source.files.with_items
    parts: list[pl.DataFrame] = []
    for frame in source.rows_of(dataset, users):
        part = frame.join(known, on=Columns.USER_ID, how="inner", maintain_order="left")
        bad = part.filter(pl.col(VALUE).is_nan())
        if len(bad):
            row = bad.row(0, named=True)
            item = dataset.item_ids()[row[Columns.ITEM]] if Columns.ITEM in row else None
            raise source.files.not_finite(row[PIECE], dataset.manifest.id_types, row[Columns.USER_ID], item)
        parts.append(part.select(names))
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return _Found(none, none if source.files.with_items else None, np.empty(0))
    whole = pl.concat(parts)
    item_numbers = whole[Columns.ITEM].cast(pl.Int64).to_numpy() if source.files.with_items else None
    return _Found(whole[Columns.USER].cast(pl.Int64).to_numpy(), item_numbers, whole[VALUE].to_numpy())
