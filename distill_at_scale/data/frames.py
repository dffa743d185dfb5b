"""Frames in memory (polars, pandas, Arrow, DuckDB …) as numbered rows, by the rules that a log is prepared by.

Frames come in by the Arrow PyCapsule interface, so that none of their libraries need be installed or imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import ragged
from distill_at_scale.data.columns import SPLITS, Columns
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.preparation.row_order import in_time_order, one_of_each, ranks
from distill_at_scale.data.readers.fields import REQUIRED, resolve
from distill_at_scale.data.row_validation import validate_rows
from distill_at_scale.data.times import UNITS, TimeRule, is_likely
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.facts import count_of
from distill_at_scale.validation import did_you_mean

KEYWORDS: Final = {
    Columns.USER_ID: "user",
    Columns.ITEM_ID: "item",
    Columns.RATING: "rating",
    Columns.TIMESTAMP: "time",
    Columns.SPLIT: "split",
}
"""Column of a log → the keyword that names it."""
_NUMBER_UNITS: Final = ("s", "ms", "us", "ns")


@runtime_checkable
class Frame(Protocol):
    """A table in memory: a polars or pandas DataFrame, an Arrow table, a DuckDB relation …"""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass(frozen=True)
class NumberedLog:
    """Rows of a frame, with users and items numbered in the order of their ids.

    Attributes:
        user_ids: [users], Int64 or String.
        item_ids: [items], likewise.
        train: rows of every user; a user may have none.
        validation, test: likewise; None where the frame has no such rows.
        unknown_items: rows left out since their item is none of those that were given.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    train: Interactions
    validation: Interactions | None = None
    test: Interactions | None = None
    unknown_items: int = 0


def is_frame(data: object) -> bool:
    """Whether ``data`` is a table that :func:`to_polars` takes."""
    return isinstance(data, pl.LazyFrame) or hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__")


def to_polars(frame: Any) -> pl.DataFrame:
    """A frame of any library as a polars one; its columns are shared where their types allow it.

    Raises:
        SettingError: ``frame`` is not a table, or has a column of mixed types.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(pl.from_arrow(pa.table(frame)))
        if hasattr(frame, "__dataframe__"):
            return pl.DataFrame(pl.from_dataframe(frame))
    except (pa.ArrowException, TypeError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingError(f"The frame cannot be read as a table: {reason}; give each column one type.") from None
    raise SettingError(
        f"A {type(frame).__name__} is not a frame; give a polars or pandas DataFrame, an Arrow table, or any object "
        "with the Arrow PyCapsule interface."
    )


def find_columns(names: Sequence[str], given: Mapping[str, str | None], want_split: bool = False) -> dict[str, str]:
    """Canonical name → the frame's own name of the columns to read.

    Args:
        names: the frame's columns.
        given: canonical name → the name that the caller gave; None, empty or missing: found by well-known names.
        want_split: whether ``split`` is read, and must be there.

    Raises:
        SettingError: a column is missing or could be several; lists the columns that there are.
    """
    named = {canonical: name for canonical, name in given.items() if name}
    for canonical, name in named.items():
        if name not in names:
            raise SettingError(
                f"The frame has no column '{name}' ({KEYWORDS[canonical]}={name!r}); {_listed(names)}"
                f"{did_you_mean(name, names)}"
            )
    try:
        return resolve(names, named, want_split, "the frame")
    except DasError:
        found = [canonical for canonical in REQUIRED if canonical in named or _resolves(names, canonical)]
        missing = [canonical for canonical in REQUIRED if canonical not in found]
        canonical = missing[0] if missing else Columns.SPLIT if want_split else Columns.TIMESTAMP
        raise SettingError(
            f"The frame has no column that is {canonical} for certain; {_listed(names)} Name it with "
            f"{KEYWORDS[canonical]}=COLUMN."
        ) from None


def _resolves(names: Sequence[str], canonical: str) -> bool:
    others = {name: names[0] for name in REQUIRED if name != canonical}
    try:
        return canonical in resolve(names, others, False, "the frame")
    except DasError:
        return False


def _listed(names: Sequence[str]) -> str:
    return f"its columns are {', '.join(names)}." if len(names) else "it has no columns."


def read_log(frame: Any, given: Mapping[str, str | None] | None = None) -> pl.DataFrame:
    """The rows of a frame under the names and types of a log.

    Args:
        frame: any table.
        given: as :func:`find_columns` takes it; ``split`` is read where it is given, or a column has that name.

    Returns:
        user_id · item_id (Int64 or String), and as far as the frame has them rating (Float32) · timestamp (Int64,
        nanoseconds since 1970 UTC) · split (Int8, −1: in no split).

    Raises:
        SettingError: Not a table, a missing column, or a value that is not an id, number or time.
    """
    table, given = to_polars(frame), given or {}
    want_split = given.get(Columns.SPLIT) is not None or Columns.SPLIT in table.columns
    columns = find_columns(table.columns, given, want_split)
    raw = pl.DataFrame({canonical: table[name] for canonical, name in columns.items()})
    for canonical in REQUIRED:
        dtype = raw[canonical].dtype
        if dtype.is_nested() or dtype.is_temporal() or dtype in (pl.Binary, pl.Boolean, pl.Object):
            raise SettingError(f"Column '{columns[canonical]}' of the frame holds {dtype}; ids are integers or text.")
    id_types = {name: "int64" if raw[name].dtype.is_integer() else "string" for name in REQUIRED}
    times = _time_rule(raw[Columns.TIMESTAMP]) if Columns.TIMESTAMP in raw else TimeRule("ms")
    good, bad = validate_rows(raw, id_types, times, "the frame", 0)
    if bad.height:
        first = bad.row(0, named=True)
        are = "is" if bad.height == 1 else "are"
        raise SettingError(
            f"{bad.height:,} of {count_of(table.height, 'row')} of the frame {are} bad, the first at position "
            f"{first['row']}: {first['reason']}; drop or correct them."
        )
    return good


def _time_rule(values: pl.Series) -> TimeRule:
    """How times are read: numbers in the unit in which their median is a time of a log, else as milliseconds, whose
    order alone counts."""
    if values.dtype == pl.String:
        return TimeRule("iso")
    middle: Any = values.median() if values.dtype.is_numeric() else None
    if middle is not None:
        for unit in _NUMBER_UNITS:
            if is_likely(middle * UNITS[unit][0] / 1e6):
                return TimeRule(unit)
    return TimeRule("ms")


def number(log: pl.DataFrame, item_ids: pl.Series | None = None) -> NumberedLog:
    """Numbers the users and items of a log, and groups its rows by user in the order of time.

    Rows of a user with the same time are ordered by a draw, and of several rows of one user and item the last stays,
    as `das prepare` does with seed 0.

    Args:
        log: what :func:`read_log` gives.
        item_ids: the items that count, in the order of their numbers; default: those of the log, sorted. Rows of
            other items are left out and counted.

    Raises:
        SettingError: ids of another type than ``item_ids``.
    """
    if Columns.SPLIT in log:
        log = log.filter(pl.col(Columns.SPLIT) >= 0)
    unknown = 0
    if item_ids is None:
        item_ids = log[Columns.ITEM_ID].unique().sort()
    else:
        if log[Columns.ITEM_ID].dtype != item_ids.dtype:
            raise SettingError(
                f"The frame's item ids are {log[Columns.ITEM_ID].dtype}, those of the model are {item_ids.dtype}; cast "
                "them."
            )
        known = log.filter(pl.col(Columns.ITEM_ID).is_in(item_ids.implode()))
        log, unknown = known, log.height - known.height
    user_ids = log[Columns.USER_ID].unique().sort()
    columns = {
        Columns.USER: ranks(log[Columns.USER_ID], user_ids),
        Columns.ITEM: _positions(log[Columns.ITEM_ID], item_ids),
        **{c: log[c].to_numpy() for c in (Columns.RATING, Columns.TIMESTAMP, Columns.SPLIT) if c in log},
    }
    order = in_time_order(columns, user_ids, item_ids, 0)
    columns = {name: values[order] for name, values in columns.items()}
    stay = one_of_each(columns[Columns.USER], columns[Columns.ITEM], "last")
    columns = {name: values[stay] for name, values in columns.items()}
    code = columns.get(Columns.SPLIT)
    parts = {}
    for name, value in SPLITS.items():
        keep = slice(None) if code is None else code == value
        rows = {key: values[keep] for key, values in columns.items()}
        if name == "train" or (code is not None and len(rows[Columns.USER])):
            parts[name] = _interactions(rows, len(user_ids), len(item_ids))
    return NumberedLog(user_ids, item_ids, unknown_items=unknown, **parts)


def _positions(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """int32 position of each id in ``known``, which may be in any order."""
    if known.is_sorted():
        return ranks(ids, known)
    order = known.arg_sort()
    return order.to_numpy().astype(np.int32)[ranks(ids, known.gather(order))]


def _interactions(rows: Mapping[str, np.ndarray], n_users: int, n_items: int) -> Interactions:
    per_user = np.bincount(rows[Columns.USER], minlength=n_users)
    times = rows.get(Columns.TIMESTAMP)
    return Interactions(
        users=np.arange(n_users, dtype=np.int64),
        offsets=ragged.offsets(per_user),
        items=rows[Columns.ITEM],
        n_items=n_items,
        ratings=rows.get(Columns.RATING),
        timestamps=None if times is None else times // 1_000_000,
    )
