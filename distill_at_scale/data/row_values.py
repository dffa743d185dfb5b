"""Numbers from outside for rows of a dataset, such as scores or propensities, in Parquet or CSV files with the columns
``user_id``, ``item_id`` and the number's; without ``item_id`` they are of users.

The files may be in any order, so the task of each shard reads all of them: with many shards and large files, keep to
the columns that are needed, in Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.ids import convert_id
from distill_at_scale.errors import DasError, SettingError

_PARQUET = b"PAR1"
_BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class RowValues:
    """Numbers of one shard's rows.

    Attributes:
        values: float64 [rows], or [users] if they are of users; 0 for users without rows.
        of_users: Whether they are of users.
    """

    values: np.ndarray
    of_users: bool


def check_values(uri: str, column: str) -> None:
    """Checks that files have a column, before any row is read.

    Raises:
        SettingError: A file or column is missing.
    """
    files = storage.list_files(uri)
    if not files:
        raise SettingError(f"{storage.redact(uri)}: no such file or folder of column '{column}'.")
    for file in files:
        _require(_names(file.uri), column, file.uri)


def read_values(
    dataset: Dataset, shard: int, owner: np.ndarray, row_items: np.ndarray, column: str, uri: str, rows: str
) -> RowValues:
    """Reads the numbers of some rows of a shard.

    Args:
        owner: int64 [rows], position of each row's user in the shard.
        row_items: int32 [rows], item of each row.
        column: Name of the numbers' column.
        uri: File or folder.
        rows: What the rows are, for messages, such as "train rows".

    Raises:
        DasError: A number is missing, not finite, or given twice; the message names the first user and item.
    """
    users, items = dataset.users(shard)[Columns.USER_ID], dataset.item_ids()
    found, n_items = _of_shard(dataset, users, items, column, uri), dataset.n_items
    of_users = found.item is None
    # A row as one number: position of the user times items, plus the item.
    wanted = np.unique(owner) if of_users else owner * n_items + row_items
    given = found.user if found.item is None else found.user * n_items + found.item
    order = np.argsort(given, kind="stable")
    given, values = given[order], found.value[order]

    def named(key: int) -> str:
        return (
            f"user {users[key]!r}" if of_users else f"user {users[key // n_items]!r} and item {items[key % n_items]!r}"
        )

    place = storage.redact(uri)
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


def _of_shard(dataset: Dataset, users: pl.Series, items: pl.Series, column: str, uri: str) -> _Found:
    types = dataset.manifest.id_types
    known = pl.DataFrame({Columns.USER_ID: users, "user": np.arange(len(users))})
    numbers = pl.DataFrame({Columns.ITEM_ID: items, "item": np.arange(len(items))})
    parts: list[pl.DataFrame] = []
    with_items: set[bool] = set()
    for file in storage.list_files(uri):
        names = _names(file.uri)
        _require(names, column, file.uri)
        with_items.add(Columns.ITEM_ID in names)
        wanted = [name for name in (Columns.USER_ID, Columns.ITEM_ID, column) if name in names]
        for batch in _batches(file.uri, wanted):
            batch = batch.with_columns(convert_id(batch[Columns.USER_ID], types[Columns.USER_ID]))
            part = batch.join(known, on=Columns.USER_ID, how="inner")
            if Columns.ITEM_ID in names and len(part):
                part = part.with_columns(convert_id(part[Columns.ITEM_ID], types[Columns.ITEM_ID]))
                # Rows of validation and test items may be there; items that the dataset lacks are not asked for.
                part = part.join(numbers, on=Columns.ITEM_ID, how="inner")
            if len(part):
                value = _numbers(part, column, file.uri)
                parts.append(part.select("user", *(["item"] if "item" in part.columns else [])).with_columns(value))
    if len(with_items) > 1:
        raise DasError(f"{storage.redact(uri)}: only some files have a column item_id; give all of them one, or none.")
    whole = pl.concat(parts) if parts else pl.DataFrame({"user": [], "item": [], column: []}, schema_overrides={})
    item = whole["item"].cast(pl.Int64).to_numpy() if with_items == {True} else None
    return _Found(whole["user"].cast(pl.Int64).to_numpy(), item, whole[column].cast(pl.Float64).to_numpy())


def _numbers(part: pl.DataFrame, column: str, uri: str) -> pl.Series:
    """The column as numbers.

    Raises:
        DasError: Some are not.
    """
    values = part[column]
    if values.dtype in (pl.String, pl.Boolean) or values.dtype.is_numeric() or values.dtype == pl.Null:
        found = values.cast(pl.Float64, strict=False)
    else:
        found = pl.Series(column, [None] * len(values), pl.Float64)
    bad = (~found.is_finite()).fill_null(True)
    if bad.any():
        row = part.filter(bad).row(0, named=True)
        of = f"user {row[Columns.USER_ID]!r}"
        if Columns.ITEM_ID in row:
            of += f" and item {row[Columns.ITEM_ID]!r}"
        raise DasError(
            f"{storage.redact(uri)}: '{row[column]}' in column '{column}' of {of} is not a finite number; give every "
            "row one."
        )
    return found.alias(column)


def _names(uri: str) -> list[str]:
    """Columns of a file.

    Raises:
        SettingError: It is neither Parquet nor CSV.
    """
    try:
        if _is_parquet(uri):
            with storage.open_input(uri, scattered=True) as file:
                return list(pq.ParquetFile(file).schema_arrow.names)
        return _head(uri)
    except (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise SettingError(
            f"{storage.redact(uri)}: not a table ({' '.join(str(error).split())[:200]}); give Parquet, or CSV with "
            "column names."
        ) from None


def _is_parquet(uri: str) -> bool:
    return storage.read_range(uri, 0, len(_PARQUET)) == _PARQUET


def _head(uri: str) -> list[str]:
    line = storage.read_range(uri, 0, 1 << 16).decode("utf-8-sig").splitlines()[:1]
    return [name.strip('"') for name in line[0].split(_separator(line[0]))] if line else []


def _separator(line: str) -> str:
    return max(",;\t|", key=line.count)


def _require(names: Sequence[str], column: str, uri: str) -> None:
    for name in (Columns.USER_ID, column):
        if name not in names:
            raise SettingError(
                f"{storage.redact(uri)}: missing column '{name}'; its columns are {', '.join(names) or 'none'}."
            )


def _batches(uri: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    if _is_parquet(uri):
        with storage.open_input(uri) as file:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        return
    content = storage.read_bytes(uri)
    separator = _separator(content.split(b"\n", 1)[0].decode("utf-8-sig"))
    yield pl.read_csv(content, separator=separator, columns=list(columns), infer_schema=False)
