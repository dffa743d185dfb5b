"""What the first values of a column say about its type: integer or text ids, the unit of times."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import Any, Final, Literal

import polars as pl

from distill_at_scale.data.cleaning import iso_to_ns
from distill_at_scale.data.ids import NO_ID, NULL_LIKE
from distill_at_scale.errors import DasError

# As a program prints an integer; "007", "+7" and " 7" mean something else than 7 to whoever wrote them.
_CANONICAL: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
# Seconds reach 1e11 in the year 5138, milliseconds passed it in 1973; and so on by thousands.
_UNITS: Final[tuple[tuple[float, Literal["s", "ms", "us"]], ...]] = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))


def id_kind(values: Sequence[Any], typed: bool) -> Literal["int", "string"] | None:
    """``"int"`` when every value is an integer as one is written canonically; None when there is no value.

    Args:
        values: text, or (typed) the values of JSON objects, where "7" is text and 7 an integer.
        typed: whether the format itself tells text from numbers.
    """
    # What programs write where there is no value makes no text of a column of integers.
    present = [value for value in values if value is not None and value not in ("", NO_ID, *NULL_LIKE)]
    if not present:
        return "string" if any(values) else None
    if typed:
        integers = all(isinstance(value, int) and not isinstance(value, bool) for value in present)
    else:
        integers = all(map(_CANONICAL.fullmatch, present))
    if not integers or min(map(int, present)) < -(2**63) or max(map(int, present)) >= 2**63:
        return "string"
    return "int"


def number_kind(values: Sequence[Any], typed: bool) -> Literal["int", "float", "string"] | None:
    """The narrowest of int, float, string that holds every value; None when there is no value."""
    present = [value for value in values if value is not None and value != ""]
    if not present:
        return None
    if id_kind(present, typed) == "int":
        return "int"
    if typed:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    else:
        numbers = all(map(_FLOAT.fullmatch, present))
    return "float" if numbers else "string"


def time_unit(values: Sequence[Any], column: str, source: str) -> Literal["s", "ms", "us", "ns", "iso"] | None:
    """The unit of timestamps: ISO text by its look, numbers by their median size; None without a value.

    Raises:
        DasError: most values are neither.
    """
    present = [str(value) for value in values if value is not None and value != ""]
    if not present:
        return None
    numbers = [float(value) for value in present if _FLOAT.fullmatch(value)]
    if 2 * len(numbers) > len(present):
        middle = abs(statistics.median(numbers))
        return next((unit for bound, unit in _UNITS if middle < bound), "ns")
    dates = iso_to_ns(pl.Series(present).str.strip_chars())
    if 2 * (len(present) - dates.null_count()) > len(present):
        return "iso"
    odd = next(value for value in present if not _FLOAT.fullmatch(value))
    raise DasError(
        f"{source}: the column '{column}' ({odd[:40]} …) holds neither numbers nor ISO 8601 times; "
        f"name another with --map timestamp=COLUMN, or ignore it with --map timestamp= (empty)."
    )
