"""Small steps on columns of raw values that the rules of a log share."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

_INTEGER: Final = r"^-?[0-9]+$"
_FLOAT: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


# About the year 10,000.
_CALENDAR_MS: Final = 253_402_300_800_000


def as_text(values: pl.Series) -> pl.Series:
    """Values as text, null where there is none."""
    if values.dtype.is_temporal():
        # A time beyond the calendar cannot be printed as one; its number can.
        printable = values.dt.epoch("ms").is_between(-_CALENDAR_MS, _CALENDAR_MS)
        times = keep(values, printable).cast(pl.String)
        return pl.select(pl.coalesce(times, values.to_physical().cast(pl.String))).to_series()
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def outside(values: pl.Series, least: int, most: int) -> bool:
    """Whether any value lies below ``least`` or above ``most``."""
    low: Any = values.min()
    high: Any = values.max()
    return low is not None and bool(low < least or high > most)


def keep(values: pl.Series, mask: pl.Series) -> pl.Series:
    """``values`` where ``mask`` is true, null elsewhere."""
    return pl.select(pl.when(mask).then(values)).to_series().alias(values.name)


def integers(text: pl.Series) -> pl.Series:
    """Text that is an integer, as Int64; null elsewhere."""
    trimmed = text.str.strip_chars(" \t")
    return keep(trimmed, trimmed.str.contains(_INTEGER)).cast(pl.Int64, strict=False)


def floats(text: pl.Series) -> pl.Series:
    """Text that is a number, as Float64; null elsewhere."""
    trimmed = text.str.strip_chars(" \t")
    return keep(trimmed, trimmed.str.contains(_FLOAT)).cast(pl.Float64, strict=False)
