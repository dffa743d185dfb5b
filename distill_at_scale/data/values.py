"""Operations on columns of raw values that the validation rules share."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

_INTEGER: Final = r"^-?[0-9]+$"
_FLOAT: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


# About the year 10,000.
_CALENDAR_MS: Final = 253_402_300_800_000


def as_text(values: pl.Series) -> pl.Series:
    """Converts values to text; null where the value is null."""
    if values.dtype.is_temporal():
        # A time beyond the calendar is printed as its number.
        printable = values.dt.epoch("ms").is_between(-_CALENDAR_MS, _CALENDAR_MS)
        times = keep(values, printable).cast(pl.String)
        return pl.select(pl.coalesce(times, values.to_physical().cast(pl.String))).to_series()
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def outside(values: pl.Series, least: int, most: int) -> bool:
    """Returns whether any value is below ``least`` or above ``most``."""
    low: Any = values.min()
    high: Any = values.max()
    return low is not None and bool(low < least or high > most)


def keep(values: pl.Series, mask: pl.Series) -> pl.Series:
    """Returns ``values`` where ``mask`` is true, null elsewhere."""
    return pl.select(pl.when(mask).then(values)).to_series().alias(values.name)


def integers(text: pl.Series) -> pl.Series:
    """Converts text to Int64; null where the text is not an integer."""
    trimmed = text.str.strip_chars(" \t")
    return keep(trimmed, trimmed.str.contains(_INTEGER)).cast(pl.Int64, strict=False)


def floats(text: pl.Series) -> pl.Series:
    """Converts text to Float64; null where the text is not a number."""
    trimmed = text.str.strip_chars(" \t")
    return keep(trimmed, trimmed.str.contains(_FLOAT)).cast(pl.Float64, strict=False)


def fold(text: pl.Series) -> pl.Series:
    """Text in lower case and in Unicode's compatibility form (NFKC), in which texts that look alike are equal."""
    if text.str.len_bytes().sum() != text.str.len_chars().sum():
        text = text.str.normalize("NFKC")
    return text.str.to_lowercase()
