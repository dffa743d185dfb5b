"""Timestamps of a log: units, conversion to nanoseconds, and plausible ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl

from distill_at_scale.data.values import floats, integers, keep, outside

# A fixed bound instead of the current time: the same input gives the same rows on any day.
END_OF_TIME_MS: Final = 4_102_444_800_000  # 2100-01-01T00:00:00Z
EARLIEST_MS: Final = 631_152_000_000  # 1990-01-01T00:00:00Z
# Most interactions of a log lie in this range; a median outside it suggests another unit, or a column without times.
LIKELY_MS: Final = (788_918_400_000, 2_051_222_400_000)  # 1995-01-01, 2035-01-01
_NS_PER_MS: Final = 1_000_000
UNITS: Final[dict[str, tuple[int, int]]] = {
    "s": (1_000_000_000, 0),
    "ms": (1_000_000, 0),
    "us": (1_000, 0),
    "ns": (1, 0),
    "days": (86_400_000_000_000, 0),
    "excel": (86_400_000_000_000, 25_569),
    "ticks": (100, 621_355_968_000_000_000),
}
"""Unit → its length in nanoseconds, and the value of 1970 in it: Excel counts days from 1899-12-30, .NET ticks of
100 ns from the year 1."""
NAMES: Final[dict[str, str]] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "days": "days since 1970",
    "excel": "Excel's days",
    "ticks": ".NET ticks",
    "iso": "ISO 8601 text",
}
"""Unit → its name in messages."""
_USUAL_ISO: Final = r"^[0-9]{4}-[0-9][0-9]-[0-9][0-9]_(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z?$"
_ISO: Final = (
    r"^(?<date>[0-9]{4}-[0-9][0-9]-[0-9][0-9])"
    r"(?:[T ](?<hour>[01][0-9]|2[0-3]):(?<minute>[0-5][0-9])"
    r"(?::(?<second>[0-5][0-9]|60)(?:[.,](?<fraction>[0-9]{1,9}))?)?"
    r" ?(?<zone>[Zz]|UTC|GMT|[+-][0-9][0-9]:?[0-9][0-9]|[+-][0-9][0-9])?)?$"
)
WRONG_UNIT: Final = "timestamp is in another unit than the others (too small or too large by a factor of 1,000 or more)"
TOO_EARLY: Final = "timestamp is before 1990 (cut off, not set, or in another unit)"
UNLIKELY: Final = (WRONG_UNIT, TOO_EARLY)
"""Reasons for rows whose time is implausible in a log with these times."""


@dataclass(frozen=True)
class TimeRule:
    """How the timestamps of a log are read.

    Attributes:
        unit: Unit of numbers, one of ``UNITS``; ``iso`` for ISO 8601 text; ``format`` for text that follows ``format``.
        format: ``strptime`` format, for the unit ``format``.
        checked: Whether times before 1990 are bad, as in logs whose other times are later.
    """

    unit: str
    format: str | None = None
    checked: bool = False


def convert_time(values: pl.Series, rule: TimeRule) -> pl.Series:
    """Converts values to Int64 nanoseconds since 1970 UTC; null outside 1970 (checked: 1990) to 2100, or if
    unreadable."""
    times = _convert(values, rule)
    if rule.checked:
        low: Any = times.min()
        if low is not None and low < EARLIEST_MS * _NS_PER_MS:
            times = keep(times, times >= EARLIEST_MS * _NS_PER_MS)
    return times


def _convert(values: pl.Series, rule: TimeRule) -> pl.Series:
    unit = rule.unit
    if values.dtype.is_temporal():
        # Bounds are applied in milliseconds first: times beyond the calendar would overflow in nanoseconds.
        ms = values.dt.epoch("ms")
        return keep(values, (ms >= 0) & (ms < END_OF_TIME_MS)).dt.epoch("ns")
    if unit == "format":
        return _in_time(format_to_ns(_as_text(values, rule), rule.format or ""), "ns")
    if values.dtype == pl.String:
        if unit == "iso":
            return _in_time(iso_to_ns(values.str.strip_chars()), "ns")
        whole = integers(values)
        exact = _in_time(whole, unit)
        if not whole.null_count():
            return exact
        return pl.select(pl.when(whole.is_null()).then(_in_time(floats(values), unit)).otherwise(exact)).to_series()
    if unit == "iso":
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    if values.dtype.is_decimal():
        values = values.cast(pl.Float64)
    return _in_time(values, unit)


def _in_time(values: pl.Series, unit: str) -> pl.Series:
    """Converts numbers in ``unit`` to nanoseconds; null before 1970 and from the year 2100 on."""
    length, start = UNITS[unit]
    end = END_OF_TIME_MS * _NS_PER_MS // length
    if values.dtype.is_float():
        values = values.cast(pl.Float64) - start
        values = keep(values, (values >= 0) & (values < end))
        # 881250949.123 s is slightly too low in binary. Rounding to microseconds, about the resolution of a double at
        # this magnitude, recovers the written time.
        if length > 1000:
            return (values * (length // 1000)).round().cast(pl.Int64) * 1000
        return values.floor().cast(pl.Int64) * length
    values = values.cast(pl.Int64, strict=False)
    if outside(values, start, start + end - 1):
        values = keep(values, (values >= start) & (values < start + end))
    return (values - start) * length if start else values * length


def iso_to_ns(text: pl.Series) -> pl.Series:
    """Converts ISO 8601 text to nanoseconds: a date, or a date and time to the minute or finer; UTC without a zone.

    Times before 1678 or after 2262, the range of 64-bit nanoseconds, are clipped to that range.
    """
    for separator in "T ":
        # The two most common shapes have a parser six times as fast; it accepts nothing that the pattern would reject.
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
    """Converts milliseconds plus nanoseconds to nanoseconds, clipped to 64 bits."""
    limit = (1 << 63) // 1_000_000 - 1000
    if outside(ms, -limit, limit):
        ms = ms.clip(-limit, limit)
    return ms * 1_000_000 + fraction


# Times with a format


def check_format(format: str) -> None:
    """Rejects a format that cannot read the times it writes.

    Raises:
        ValueError: The format loses the date, or the zone.
    """
    if "%Z" in format and "%z" not in format:
        raise ValueError(
            f"'{format}': names of zones (%Z) tell no offset for certain; write the times in UTC or with their offset "
            f"(%z), or write the name itself in the format if all times have the same, which reads them as UTC"
        )
    if not is_format(format):
        raise ValueError(
            f"'{format}' cannot be read as a date; use the codes of Python's strptime, "
            f"such as %Y-%m-%d %H:%M:%S or %d/%m/%Y, with a year and a month"
        )


def is_format(format: str) -> bool:
    """Returns whether a format reads the date of the times it writes, at least to the month."""
    moment = datetime(2020, 2, 29, 13, 0, 0, tzinfo=UTC)
    try:
        times = format_to_ns(pl.Series([moment.strftime(format)]), format)
    except ValueError:
        return False
    if times.null_count():
        return False
    # A 12-hour clock without AM or PM, or a format without hours, loses the time of day; the date must be right.
    read, day = datetime.fromtimestamp(int(times[0]) // 10**9, UTC).date(), moment.date()
    return read == day or (to_the_month(format) and read == day.replace(day=1))


def to_the_month(format: str) -> bool:
    """Returns whether a format names the month and no day, so that times are read as the month's first."""
    return bool(re.search("%[mbBh]", format)) and not re.search("%[dejuwaAUWVcxDF]", format)


def format_to_ns(text: pl.Series, format: str) -> pl.Series:
    """Converts text to nanoseconds since 1970 (UTC if the format has no zone); null where it does not match
    ``format``."""
    # Polars follows Rust's chrono, which differs from Python in fractions, in Z as a zone, and in hours without
    # minutes.
    text = text.cast(pl.String).str.strip_chars()
    for code, pattern in _ZONE_NAMES.items():
        if format.endswith(code):
            text, format = text.str.replace(rf"\s*{pattern}$", ""), format.removesuffix(code).rstrip()
    if ",%f" in format:
        text, format = text.str.replace(r",([0-9]+)", ".$1"), format.replace(",%f", ".%f")
    format = format.replace(".%f", "%.f").replace("%z", "%#z")
    if re.search(r"%[HI]", format) and not re.search(r"%[MRTXc]", format):
        text, format = text + " 00", format + " %M"
    # Without a point, chrono takes the digits for nanoseconds, however few they are.
    formats = [format.replace("%f", code) for code in ("%3f", "%6f", "%9f")] if "%f" in format else [format]
    try:
        times = [text.str.to_datetime(one, strict=False, time_unit="us") for one in formats]
    except pl.exceptions.PolarsError:
        return pl.Series(text.name, [None] * len(text), dtype=pl.Int64)
    read = times[0] if len(times) == 1 else pl.select(pl.coalesce(times)).to_series().alias(text.name)
    return _ms_as_ns(read.dt.epoch("ms"), (read.dt.epoch("us") % 1000) * 1000)


# The name of a zone after its offset, at the end of a format → what it stands for.
_ZONE_NAMES: Final = {"(%Z)": r"\([^()]*\)", "[%Z]": r"\[[^\[\]]*\]", "%Z": r"[A-Za-z][A-Za-z0-9/_+-]*"}


def _as_text(values: pl.Series, rule: TimeRule) -> pl.Series:
    if values.dtype.is_float() or values.dtype.is_decimal():
        values = values.cast(pl.Int64, strict=False)
    if values.dtype != pl.String:
        return values.cast(pl.String, strict=False)
    # Programs write 20220408.0 for 20220408 in columns with missing values.
    return values if "." in (rule.format or "") else values.str.replace(r"\.0+$", "")


# Reasons for bad times, and plausible times


def time_reasons(values: pl.Series, rule: TimeRule) -> list[tuple[pl.Series, str]]:
    """Returns (mask, reason) pairs for bad times in order of precedence; rows without a match are unreadable."""
    ms = _as_ms(values, rule)
    low, high = LIKELY_MS
    scaled = np.array([1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9])
    other = np.zeros(len(ms), dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for factor in scaled:
            other |= (ms * factor >= low) & (ms * factor < high)
        other &= (ms < EARLIEST_MS) | (ms >= END_OF_TIME_MS)
        early = (ms >= 0) & (ms < EARLIEST_MS)
        reasons = [
            (other & rule.checked, WRONG_UNIT),
            (ms < 0, "timestamp is before 1970"),
            (early & rule.checked, TOO_EARLY),
            (ms > 0, "timestamp is after the year 2100"),
        ]
    return [(pl.Series(rows), why) for rows, why in reasons]


def unreadable(rule: TimeRule) -> str:
    """Returns the reason for a value that is not a time at all."""
    if rule.unit == "format":
        return f"timestamp does not fit the format {rule.format} (--time-format names another)"
    if rule.unit == "iso":
        return "timestamp is not an ISO 8601 time (--time-format names another format)"
    return "timestamp is not a number (--time-unit names the unit)"


def _as_ms(values: pl.Series, rule: TimeRule) -> np.ndarray:
    """Converts raw times to float64 milliseconds without bounds; NaN where unreadable."""
    if values.dtype.is_temporal():
        ms = values.dt.epoch("ms").cast(pl.Float64)
    elif rule.unit == "format":
        ms = format_to_ns(_as_text(values, rule), rule.format or "").cast(pl.Float64) / _NS_PER_MS
    elif rule.unit == "iso":
        text = values if values.dtype == pl.String else pl.Series([None] * len(values), dtype=pl.String)
        ms = iso_to_ns(text.str.strip_chars()).cast(pl.Float64) / _NS_PER_MS
    else:
        numbers = values.str.strip_chars() if values.dtype == pl.String else values
        length, start = UNITS[rule.unit]
        ms = (numbers.cast(pl.Float64, strict=False) - start) * (length / _NS_PER_MS)
    return ms.to_numpy()


def is_likely(ms: float) -> bool:
    """Returns whether a median time, in milliseconds, is plausible for a log."""
    return LIKELY_MS[0] <= ms < LIKELY_MS[1]


def show_time(ms: float) -> str:
    """Formats a time in milliseconds: 2020-09-13 12:26:40."""
    seconds = ms / 1000
    if not -62_135_596_800 <= seconds < 253_402_300_800:
        return "beyond the year 9999" if seconds > 0 else "before the year 1"
    return str(np.datetime64(round(seconds), "s")).replace("T", " ")


def show_day(ms: float) -> str:
    """The day of a time in milliseconds: 2020-09-13."""
    shown = show_time(ms)
    return shown[:10] if shown[0].isdigit() else shown
