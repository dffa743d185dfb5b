"""Raw rows in, good rows and bad rows with a reason out: the rules every row of a log must pass.

Clean data takes the fast way: casts, null counts and minima only. Masks and reasons are computed
for batches that hold a bad row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.ids import convert_id, id_reasons, whole

BAD_SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    "reason": pl.String,
    "source": pl.String,
    "row": pl.Int64,
    **dict.fromkeys(Columns.LOG, pl.String),
    "line": pl.String,
}
"""Columns of the quarantine: the reason, the file, the row or line number there (from 1; null where
unknown), the raw values as text, and the whole line where the line itself is broken."""

# A fixed bound, not the clock's "now": the same input gives the same rows on any day.
END_OF_TIME_MS: Final = 4_102_444_800_000  # 2100-01-01T00:00:00Z
_NS: Final = 1_000_000_000
_CALENDAR_MS: Final = 253_402_300_800_000  # about the year 10,000
# Quarantined text is for the eye; a broken file must not come back whole as one value.
_MAX_TEXT: Final = 1000
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_SPLIT_CODES: Final = {
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
_INTEGER: Final = r"^-?[0-9]+$"
_FLOAT: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_USUAL_ISO: Final = r"^[0-9]{4}-[0-9][0-9]-[0-9][0-9]_(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z?$"
_ISO: Final = (
    r"^(?<date>[0-9]{4}-[0-9][0-9]-[0-9][0-9])"
    r"(?:[T ](?<hour>[01][0-9]|2[0-3]):(?<minute>[0-5][0-9])"
    r"(?::(?<second>[0-5][0-9]|60)(?:[.,](?<fraction>[0-9]{1,9}))?)?"
    r" ?(?<zone>[Zz]|UTC|[+-][0-9][0-9]:?[0-9][0-9]|[+-][0-9][0-9])?)?$"
)


def empty_bad() -> pl.DataFrame:
    """No bad rows."""
    return pl.DataFrame(schema=BAD_SCHEMA)


def clean_rows(
    raw: pl.DataFrame,
    id_types: Mapping[str, str],
    time_unit: str,
    source: str,
    rows: int | Sequence[int] | np.ndarray | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divides raw rows into good ones, converted, and bad ones, each with its first reason.

    Args:
        raw: [n] rows with ``user_id``, ``item_id`` and any of ``rating``, ``timestamp``, ``split``; integers,
            floats, decimals, strings, dates or datetimes.
        id_types: ``"int64"`` or ``"string"`` for each id column.
        time_unit: of numeric timestamps: ``s``, ``ms``, ``us``, ``ns``; ``iso`` for text.
        source: the file's name for the quarantine.
        rows: number of the first row in its file, the numbers of all rows, or None where unknown.

    Returns:
        good [g]: ids Int64 or String, ``rating`` Float32, ``timestamp`` Int64 nanoseconds since 1970 UTC (what lies
        below a millisecond still orders rows), ``split`` Int8; bad [n − g]: :data:`BAD_SCHEMA`.
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
            converted[name] = _convert_time(values, time_unit)
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
        reasons = _reasons(faulty[name], series.filter(is_bad).is_null(), id_types.get(name), time_unit)
        reason = pl.select(pl.coalesce(reason, reasons)).to_series()
    bad = quarantined(faulty, reason, source, _row_numbers(rows, is_bad))
    return good.filter(~is_bad), bad


def broken_lines(lines: Sequence[str], reasons: Sequence[str], source: str, rows: pl.Series) -> pl.DataFrame:
    """Quarantine rows for lines that do not come apart into fields; ``rows`` Int64, null where unknown."""
    frame = pl.DataFrame(
        {
            "reason": pl.Series(reasons, dtype=pl.String),
            "row": rows,
            "line": pl.Series([line[:_MAX_TEXT] for line in lines], dtype=pl.String),
        }
    ).with_columns(pl.lit(source).alias("source"), *(pl.lit(None, pl.String).alias(name) for name in Columns.LOG))
    return frame.select(list(BAD_SCHEMA))


def _row_numbers(rows: int | Sequence[int] | np.ndarray | None, is_bad: pl.Series) -> pl.Series:
    positions = is_bad.arg_true().to_numpy()
    if rows is None:
        return pl.Series([None] * len(positions), dtype=pl.Int64)
    if isinstance(rows, int):
        return pl.Series(positions.astype(np.int64) + rows)
    return pl.Series(np.asarray(rows, dtype=np.int64)[positions])


def quarantined(faulty: pl.DataFrame, reason: pl.Series, source: str, rows: pl.Series) -> pl.DataFrame:
    """Rows of the quarantine for raw rows (any of the log's columns), with a reason and a row number each."""
    texts = [
        _as_text(faulty[name]).str.slice(0, _MAX_TEXT).alias(name)
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


def _as_text(values: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        # A time beyond the calendar cannot be printed as one; its number can.
        printable = values.dt.epoch("ms").is_between(-_CALENDAR_MS, _CALENDAR_MS)
        times = _keep(values, printable).cast(pl.String)
        return pl.select(pl.coalesce(times, values.to_physical().cast(pl.String))).to_series()
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


# Conversions: each gives a series of the target type, null where the value is bad.


def _convert_rating(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = _floats(values)
    ratings = values.cast(pl.Float32, strict=False)
    finite = ratings.is_finite()
    return ratings if finite.all() else _keep(ratings, finite)


def _convert_time(values: pl.Series, unit: str) -> pl.Series:
    if values.dtype.is_temporal():
        # Bounded in milliseconds first: what lies beyond the calendar would overflow in nanoseconds.
        ms = values.dt.epoch("ms")
        return _keep(values, (ms >= 0) & (ms < END_OF_TIME_MS)).dt.epoch("ns")
    if values.dtype == pl.String:
        if unit == "iso":
            return _in_time(iso_to_ns(values.str.strip_chars()), "ns")
        whole = _integers(values)
        exact = _in_time(whole, unit)
        if not whole.null_count():
            return exact
        return pl.select(pl.when(whole.is_null()).then(_in_time(_floats(values), unit)).otherwise(exact)).to_series()
    if unit == "iso":
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    if values.dtype.is_decimal():
        values = values.cast(pl.Float64)
    return _in_time(values, unit)


def _in_time(values: pl.Series, unit: str) -> pl.Series:
    """Numbers in ``unit`` as nanoseconds; null before 1970 and from the year 2100 on."""
    per_second = _PER_SECOND[unit]
    end = END_OF_TIME_MS // 1000 * per_second
    if values.dtype.is_float():
        values = values.cast(pl.Float64)
        values = _keep(values, (values >= 0) & (values < end))
        # 881250949.123 s in binary lies a hair below; rounding to microseconds, about as fine as a double is there,
        # gives the time that was written.
        if per_second < 1_000_000:
            return (values * (1_000_000 // per_second)).round().cast(pl.Int64) * 1000
        return values.floor().cast(pl.Int64) * (_NS // per_second)
    values = values.cast(pl.Int64, strict=False)
    if _outside(values, 0, end - 1):
        values = _keep(values, (values >= 0) & (values < end))
    return values * (_NS // per_second)


def _convert_split(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        values = whole(values)
    text = _as_text(values).str.strip_chars().str.to_lowercase()
    return text.replace_strict(_SPLIT_CODES, default=None, return_dtype=pl.Int8)


def _outside(values: pl.Series, least: int, most: int) -> bool:
    low: Any = values.min()
    high: Any = values.max()
    return low is not None and bool(low < least or high > most)


def _keep(values: pl.Series, mask: pl.Series) -> pl.Series:
    """``values`` where ``mask`` is true, null elsewhere."""
    return pl.select(pl.when(mask).then(values)).to_series().alias(values.name)


def _integers(text: pl.Series) -> pl.Series:
    trimmed = text.str.strip_chars(" \t")
    return _keep(trimmed, trimmed.str.contains(_INTEGER)).cast(pl.Int64, strict=False)


def _floats(text: pl.Series) -> pl.Series:
    trimmed = text.str.strip_chars(" \t")
    return _keep(trimmed, trimmed.str.contains(_FLOAT)).cast(pl.Float64, strict=False)


def iso_to_ns(text: pl.Series) -> pl.Series:
    """ISO 8601 text (a date, or date and time to the minute or finer; no zone: UTC) as nanoseconds; what is
    before 1678 or after 2262, where 64 bits of them end, as that end."""
    for separator in "T ":
        # The two most usual shapes have a parser six times as fast; it sees nothing the pattern would refuse.
        if len(text) and text.str.contains(_USUAL_ISO.replace("_", separator)).all(ignore_nulls=False):
            times = text.str.slice(0, 19).str.to_datetime(f"%Y-%m-%d{separator}%H:%M:%S", strict=False)
            return _ms_as_ns(times.dt.epoch("ms"), 0)
    parts = text.str.extract_groups(_ISO).struct.unnest()
    zone = parts["zone"].str.replace(":", "", literal=True).str.slice(1)
    minutes_east = pl.when(parts["zone"].str.slice(0, 1).is_in(["+", "-"])).then(
        zone.str.slice(0, 2).cast(pl.Int64, strict=False) * 60
        + zone.str.slice(2, 2).cast(pl.Int64, strict=False).fill_null(0)
    ).otherwise(0) * pl.when(parts["zone"].str.starts_with("-")).then(-1).otherwise(1)

    def number(name: str) -> pl.Series:
        return parts[name].cast(pl.Int64, strict=False).fill_null(0)

    day = parts["date"].str.to_date("%Y-%m-%d", strict=False).dt.epoch("d").cast(pl.Int64)
    seconds = (day * 24 + number("hour")) * 3600 + number("minute") * 60 + number("second")
    fraction = parts["fraction"].str.pad_end(9, "0").cast(pl.Int64, strict=False).fill_null(0)
    return _ms_as_ns(pl.select(pl.lit(seconds * 1000) - minutes_east * 60_000).to_series(), fraction)


def _ms_as_ns(ms: pl.Series, fraction: pl.Series | int) -> pl.Series:
    """Milliseconds plus nanoseconds as nanoseconds, cut to what fits 64 bits."""
    limit = (1 << 63) // 1_000_000 - 1000
    if _outside(ms, -limit, limit):
        ms = ms.clip(-limit, limit)
    return ms * 1_000_000 + fraction


# Reasons, computed for bad rows only.


def _reasons(values: pl.Series, is_bad: pl.Series, id_type: str | None, unit: str) -> pl.Series:
    name = values.name
    text = _as_text(values)
    missing = text.is_null() | (text == "")
    reason = pl.when(~is_bad).then(pl.lit(None, pl.String)).when(missing).then(pl.lit(f"{name} is missing"))
    if id_type:
        *known, (_, otherwise) = id_reasons(name, text, id_type)
        for holds, why in known:
            reason = reason.when(holds).then(pl.lit(why))
    elif name == Columns.RATING:
        number = values if values.dtype.is_numeric() else text.str.strip_chars().cast(pl.Float64, strict=False)
        reason = reason.when(number.is_not_null()).then(pl.lit("rating is not finite"))
        otherwise = "rating is not a number"
    elif name == Columns.TIMESTAMP:
        number = _time_number(values, unit)
        reason = reason.when(number < 0).then(pl.lit("timestamp is before 1970"))
        reason = reason.when(number > 0).then(pl.lit("timestamp is after the year 2100"))
        otherwise = (
            "timestamp is not an ISO 8601 time" if unit == "iso" else "timestamp is not a number"
        ) + " (--time-unit names the unit)"
    else:
        otherwise = "split is none of -1, 0, 1, 2, train, validation, test"
    return pl.select(reason.otherwise(pl.lit(otherwise))).to_series()


def _time_number(values: pl.Series, unit: str) -> pl.Series:
    """Bad timestamps as numbers whose sign tells too early from too late; null where unreadable."""
    if values.dtype.is_temporal():
        return values.dt.epoch("ms").cast(pl.Float64)
    if values.dtype == pl.String:
        if unit == "iso":
            return iso_to_ns(values.str.strip_chars()).cast(pl.Float64)
        return values.str.strip_chars().cast(pl.Float64, strict=False)
    if unit == "iso":
        return pl.Series([None] * len(values), dtype=pl.Float64)
    return values.cast(pl.Float64, strict=False)
