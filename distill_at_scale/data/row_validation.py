"""Row validation: raw rows in, good rows and rejected rows with a reason out.

Clean batches take a fast path of casts, null counts and minima. Masks and reasons are computed only for batches
with a bad row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.ids import MARKED, NO_ID, NULL_LIKE, convert_id, id_reasons, inexact, notice_ids, whole
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.times import TimeRule, convert_time, time_reasons, unreadable
from distill_at_scale.data.values import as_text, floats, keep

BAD_SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    "reason": pl.String,
    "source": pl.String,
    "row": pl.Int64,
    **dict.fromkeys(Columns.LOG, pl.String),
    "line": pl.String,
}
"""Columns of the quarantine: reason, file, row or line number in it (from 1; null if unknown), raw values as text, and
the whole line if the line itself is malformed."""

# Quarantined text is for display only; a broken file must not be copied whole as one value.
_MAX_TEXT: Final = 1000
SPLIT_CODES: Final = {
    "-1": -1,
    "0": 0,
    "1": 1,
    "2": 2,
    "train": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "test": 2,
}


def empty_bad() -> pl.DataFrame:
    """Returns an empty frame of bad rows."""
    return pl.DataFrame(schema=BAD_SCHEMA)


def validate_rows(
    raw: pl.DataFrame,
    id_types: Mapping[str, str],
    times: TimeRule,
    source: str,
    rows: int | Sequence[int] | np.ndarray | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divides raw rows into good rows, converted, and bad rows, each with its first reason.

    Args:
        raw: [n] rows with ``user_id``, ``item_id`` and any of ``rating``, ``timestamp``, ``split``; integers,
            floats, decimals, strings, dates or datetimes.
        id_types: ``"int64"`` or ``"string"`` for each id column.
        times: Rule for timestamps that do not carry their own unit.
        source: File name, for the quarantine.
        rows: Number of the first row in its file, the numbers of all rows, or None if unknown.

    Returns:
        good [g]: ids Int64 or String, ``rating`` Float32, ``timestamp`` Int64 nanoseconds since 1970 UTC (digits below
        a millisecond still order rows), ``split`` Int8; bad [n − g]: :data:`BAD_SCHEMA`.
    """
    converted = {}
    for name in Columns.LOG:
        if name not in raw.columns:
            continue
        values = raw[name]
        if name in id_types:
            converted[name] = convert_id(values, id_types[name])
        elif name == Columns.RATING:
            converted[name] = _convert_rating(values)
        elif name == Columns.TIMESTAMP:
            converted[name] = convert_time(values, times)
        else:
            converted[name] = _convert_split(values)
    good = pl.DataFrame(converted)
    if not any(series.null_count() for series in converted.values()):
        return good, empty_bad()

    is_bad = pl.Series(np.zeros(raw.height, dtype=bool))
    for series in converted.values():
        is_bad = is_bad | series.is_null()
    faulty = raw.filter(is_bad)
    reason = pl.Series("reason", [None] * faulty.height, dtype=pl.String)
    for name, series in converted.items():
        reasons = _reasons(faulty[name], series.filter(is_bad).is_null(), id_types.get(name), times)
        reason = pl.select(pl.coalesce(reason, reasons)).to_series()
    bad = quarantined(faulty, reason, source, _row_numbers(rows, is_bad))
    return good.filter(~is_bad), bad


def broken_lines(lines: Sequence[str], reasons: Sequence[str], source: str, rows: pl.Series) -> pl.DataFrame:
    """Returns quarantine rows for lines that cannot be split into fields; ``rows`` is Int64, null where unknown."""
    frame = pl.DataFrame(
        {
            "reason": pl.Series(reasons, dtype=pl.String),
            "row": rows,
            "line": pl.Series([line[:_MAX_TEXT] for line in lines], dtype=pl.String),
        }
    ).with_columns(pl.lit(source).alias("source"), *(pl.lit(None, pl.String).alias(name) for name in Columns.LOG))
    return frame.select(list(BAD_SCHEMA))


def notice_rows(good: pl.DataFrame) -> tuple[Notice, ...]:
    """What looks odd about good rows: their ids, and ratings that may stand for none."""
    noticed = [n for name in (Columns.USER_ID, Columns.ITEM_ID) for n in notice_ids(good[name])]
    if Columns.RATING in good.columns and good.height and good[Columns.RATING].min() < 0:  # type: ignore[operator]
        below = good[Columns.RATING].filter(good[Columns.RATING] < 0)
        what = "rating is negative, and read as it is (if it means that there is none, --min-rating 0 drops the row)"
        noticed.append(Notice(what=what, count=len(below), example=f"{below[0]:g}"))
    if Columns.RATING in good.columns and good.height:
        noticed += _no_ratings(good[Columns.RATING])
    return tuple(noticed)


def _no_ratings(ratings: pl.Series) -> list[Notice]:
    """Reports 0 among the ratings of a scale from 1, and 99 or the like far above them: marks for "no rating"."""
    high: Any = ratings.max()
    zero = ratings == 0
    if high is not None and 3 <= high <= 100 and zero.any():
        rest = ratings.filter(~zero)
        usual: Any = rest.value_counts()["count"].max()
        if rest.min() >= 1 and rest.n_unique() >= 3 and zero.sum() >= 2 * usual:  # type: ignore[operator]
            what = "rating is 0, the others are 1 or more (if 0 means that there is none, --min-rating 1 drops the row)"
            return [Notice(what=what, count=int(zero.sum()))]
    if high in (99, 255, 999, 9999):
        none = ratings == high
        rest = ratings.filter(~none)
        if len(rest) and rest.max() <= high / 9:
            what = f"rating is {high:g}, far above the others: a mark for a missing one? it is read as it is"
            return [Notice(what=what, count=int(none.sum()))]
    return []


def _row_numbers(rows: int | Sequence[int] | np.ndarray | None, is_bad: pl.Series) -> pl.Series:
    positions = is_bad.arg_true().to_numpy()
    if rows is None:
        return pl.Series([None] * len(positions), dtype=pl.Int64)
    if isinstance(rows, int):
        return pl.Series(positions.astype(np.int64) + rows)
    return pl.Series(np.asarray(rows, dtype=np.int64)[positions])


def quarantined(faulty: pl.DataFrame, reason: pl.Series, source: str, rows: pl.Series) -> pl.DataFrame:
    """Returns quarantine rows for raw rows (any of the log's columns), with a reason and a row number each."""
    texts = [
        as_text(faulty[name]).str.slice(0, _MAX_TEXT).alias(name)
        if name in faulty.columns
        else pl.Series(name, [None] * faulty.height, dtype=pl.String)
        for name in Columns.LOG
    ]
    return pl.DataFrame(
        [
            reason.alias("reason"),
            pl.Series("source", [source] * faulty.height, dtype=pl.String),
            rows.cast(pl.Int64).alias("row"),
            *texts,
            pl.Series("line", [None] * faulty.height, dtype=pl.String),
        ]
    )


def _marks_none(text: pl.Series) -> pl.Series:
    """Returns which values are marks of missing ones, such as NULL, \\N or MySQL's date of zeros."""
    return text.str.strip_chars().is_in([NO_ID, *NULL_LIKE]) | text.str.starts_with("0000-00-00")


# Conversions: each returns a series of the target type, null where the value is bad.


def _convert_rating(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = floats(values)
    ratings = values.cast(pl.Float32, strict=False)
    finite = ratings.is_finite()
    return ratings if finite.all() else keep(ratings, finite)


def _convert_split(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        values = whole(values)
    text = as_text(values).str.strip_chars().str.to_lowercase()
    return text.replace_strict(SPLIT_CODES, default=None, return_dtype=pl.Int8)


# Reasons, computed only for bad rows.


def _reasons(values: pl.Series, is_bad: pl.Series, id_type: str | None, times: TimeRule) -> pl.Series:
    name = values.name
    text = as_text(values)
    missing = text.is_null() | (text == "")
    if values.dtype.is_float() and id_type:
        missing = missing | values.is_nan()
    reason = pl.when(~is_bad).then(pl.lit(None, pl.String)).when(missing).then(pl.lit(f"{name} is missing"))
    if id_type:
        if values.dtype.is_float():
            reason = reason.when(values == values.floor()).then(pl.lit(inexact(name)))
        *known, (_, otherwise) = id_reasons(name, text, id_type)
        for holds, why in known:
            reason = reason.when(holds).then(pl.lit(why))
    elif name == Columns.RATING:
        number = values if values.dtype.is_numeric() else text.str.strip_chars().cast(pl.Float64, strict=False)
        reason = reason.when(number.is_not_null()).then(pl.lit("rating is not finite"))
        reason = reason.when(_marks_none(text)).then(pl.lit(f"{name} {MARKED}"))
        otherwise = "rating is not a number"
    elif name == Columns.TIMESTAMP:
        for holds, why in time_reasons(values, times):
            reason = reason.when(holds).then(pl.lit(why))
        reason = reason.when(_marks_none(text)).then(pl.lit(f"{name} {MARKED}"))
        otherwise = unreadable(times)
    else:
        otherwise = "split is none of -1, 0, 1, 2, train, validation, test"
    return pl.select(reason.otherwise(pl.lit(otherwise))).to_series()
