"""column=NAME: any score from outside is a sampler, such as a quality model's, an LLM's rating or a fraud score.

Larger scores are kept first, and a draw decides between equal ones. The scores lie in Parquet or CSV files with the
columns ``user_id``, ``item_id`` and NAME: one number for each train row. Without ``item_id`` they are of users, who are
kept with all their rows. ``rating`` and ``timestamp`` may also be the dataset's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.ids import convert_id
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, descending_keys
from distill_at_scale.samplers.train_rows import TrainRows

PREFIX = "column="
OWN = (Columns.RATING, Columns.TIMESTAMP)
"""Columns of a dataset that are scores."""
_PARQUET = b"PAR1"
_BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class ColumnValues:
    """The scores of one shard.

    Attributes:
        values: float64 [train rows], or [users] if they are of users.
        of_users: Whether they are of users.
    """

    values: np.ndarray
    of_users: bool


def column_sampler(name: str) -> Sampler:
    """Returns the sampler ``column=NAME``.

    Raises:
        SettingError: NAME is empty, or an id.
    """
    column = name.strip()[len(PREFIX) :].strip()
    if not column or column in (Columns.USER_ID, Columns.ITEM_ID):
        raise SettingError(f"--sampler {name}: name a column of scores, as column=quality.")
    return Sampler(f"{PREFIX}{column}", _score, column=column)


def _score(rows: TrainRows, seed: int, of: ColumnValues) -> Scores:
    begin = hashing.stream("column/ties", seed)
    if of.of_users:
        return Scores(descending_keys(of.values), hashing.combine(begin, rows.user_hash), rows.counts)
    return Scores(descending_keys(of.values), rows.draw(begin))


def check_column(dataset: Dataset, column: str, scores: str | None) -> None:
    """Checks that a column exists, before any row is scored.

    Raises:
        SettingError: There is no such column, or the file is missing.
    """
    if scores is not None:
        files = storage.list_files(scores)
        if not files:
            raise SettingError(f"{storage.redact(scores)}: no such file or folder of scores.")
        for file in files:
            _require(_names(file.uri), column, file.uri)
        return
    manifest = dataset.manifest
    own = [name for name, there in zip(OWN, (manifest.has_ratings, manifest.has_timestamps)) if there]
    if column not in own:
        has = f"only {' and '.join(own)}" if own else "no scores"
        raise SettingError(
            f"{storage.redact(dataset.uri)} has {has}, no column '{column}'; name the file or folder that has it by "
            "--scores URI."
        )


def read_column(dataset: Dataset, shard: int, rows: TrainRows, column: str, scores: str | None) -> ColumnValues:
    """Reads the scores of a shard's train rows.

    Args:
        rows: Train rows of the shard.
        column: Name of the column.
        scores: File or folder of scores; None for a column of the dataset.

    Raises:
        DasError: A score is missing, not a number, or given twice; the message names the first user and item.
    """
    if scores is None:
        table = dataset.table(shard, [Columns.SPLIT, column])
        train = np.flatnonzero(table[Columns.SPLIT].to_numpy() == TRAIN)
        values = table[column].to_numpy().take(train).astype(np.float64)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise DasError(
                f"{storage.redact(dataset.uri)}: {bad:,} train rows of shard {shard} have no number in column "
                f"'{column}'; prepare the log without them."
            )
        return ColumnValues(values, False)
    users, items = dataset.users(shard)[Columns.USER_ID], dataset.item_ids()
    found = _of_shard(dataset, users, items, column, scores)
    of_users = found.item is None
    # Row k of a shard, as one number: position of the user times items, plus the item.
    wanted = np.flatnonzero(rows.counts > 0) if of_users else rows.owner * rows.n_items + rows.items
    given = found.user if found.item is None else found.user * rows.n_items + found.item
    order = np.argsort(given, kind="stable")
    given, values = given[order], found.value[order]

    def named(key: int) -> str:
        if of_users:
            return f"user {users[key]!r}"
        return f"user {users[key // rows.n_items]!r} and item {items[key % rows.n_items]!r}"

    place = storage.redact(scores)
    if (twice := np.flatnonzero(given[1:] == given[:-1])).size:
        raise DasError(f"{place}: {named(int(given[twice[0]]))} has several scores in '{column}'; keep one of them.")
    at = np.searchsorted(given, wanted)
    missing = np.ones(len(wanted), dtype=bool)
    inside = at < len(given)
    missing[inside] = given[at[inside]] != wanted[inside]
    if missing.any():
        raise DasError(
            f"{place}: {int(missing.sum()):,} of {len(wanted):,} {'users' if of_users else 'train rows'} of shard "
            f"{shard} have no score in '{column}'; the first is of {named(int(wanted[np.argmax(missing)]))}. Add them, "
            "or prepare the log without these rows."
        )
    if not of_users:
        return ColumnValues(values[at], False)
    every = np.zeros(rows.n_users)
    every[wanted] = values[at]
    return ColumnValues(every, True)


@dataclass(frozen=True)
class _Found:
    """Scores of a shard's users as they lie in the files: positions int64 [n], item numbers, values float64 [n]."""

    user: np.ndarray
    item: np.ndarray | None
    value: np.ndarray


def _of_shard(dataset: Dataset, users: pl.Series, items: pl.Series, column: str, scores: str) -> _Found:
    types = dataset.manifest.id_types
    known = pl.DataFrame({Columns.USER_ID: users, "user": np.arange(len(users))})
    numbers = pl.DataFrame({Columns.ITEM_ID: items, "item": np.arange(len(items))})
    parts: list[pl.DataFrame] = []
    with_items: set[bool] = set()
    for file in storage.list_files(scores):
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
        raise DasError(
            f"{storage.redact(scores)}: only some files have a column item_id; give all of them one, or none."
        )
    whole = pl.concat(parts) if parts else pl.DataFrame({"user": [], "item": [], column: []}, schema_overrides={})
    item = whole["item"].cast(pl.Int64).to_numpy() if with_items == {True} else None
    return _Found(whole["user"].cast(pl.Int64).to_numpy(), item, whole[column].cast(pl.Float64).to_numpy())


def _numbers(part: pl.DataFrame, column: str, uri: str) -> pl.Series:
    """The scores as numbers.

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
    """Columns of a file of scores.

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
            f"{storage.redact(uri)}: not a file of scores ({' '.join(str(error).split())[:200]}); give Parquet, or CSV "
            "with column names."
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
