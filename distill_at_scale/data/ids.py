"""Rules for ids: which values are valid, and which valid ones are reported as unusual.

In a column of integers an id is valid only in canonical form. ``007``, ``+7`` and `` 7`` may have meant something
else than 7 in the source system, so they are rejected rather than merged with 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from distill_at_scale.data.noticed import Notice, shown

MAX_ID_BYTES: Final = 1024
NO_ID: Final = r"\N"
"""NULL marker of Hive, MySQL and Postgres; never an id."""
_NULL_LIKE: Final = (
    "NULL Null null NONE None none NA na N/A n/a #N/A NAN NaN nan <NA> <null> (null) nil NIL NaT undefined"
)
NULL_LIKE: Final = tuple(_NULL_LIKE.split(" "))
"""Markers of missing values in other programs; each could also be a real id."""
MARKED: Final = "is missing (written as NULL, NA or the like)"
# First bytes of quoted integers that are not in canonical form.
_QUOTED: Final = (b'"0', b'"+', b'"-', b'" ', b'"\t', b' "', b'\t"')
_KEEP_TEXT: Final = "(--id-type string reads ids as text)"
# From here on neighbouring whole numbers become one float, and two ids one.
_EXACT_BELOW: Final[dict[type[pl.DataType], float]] = {pl.Float32: float(2**24), pl.Float64: float(2**53)}
# What an id looks like for which a cheap check found a sign; by the first words of its notice.
_CONFIRMED: Final = {
    "is a number ending": r"^-?[0-9]+\.0+$",
    "is written as 1.23E": r"^-?[0-9](\.[0-9]+)?E\+[0-9]+$",
    "is written as 1.23e": r"^-?[0-9](\.[0-9]+)?e\+[0-9]+$",
    "is a number with commas": "^[0-9]{1,3}(,[0-9]{3})+$",
}
# No-break, zero-width and other blanks that print as nothing or as a plain blank. The joiner of emoji is none.
_UNSEEN: Final = "[\u0080-\u00a0\u00ad\u1680\u2000-\u200c\u200e\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]"


def marks_none(text: str) -> bool:
    """Returns whether text is a mark of a missing value: NULL, \\N, or MySQL's date of zeros."""
    return text == NO_ID or text in NULL_LIKE or text.startswith("0000-00-00")


def convert_id(values: pl.Series, id_type: str) -> pl.Series:
    """Converts values to Int64 or String ids; null where a value is not a valid id."""
    dtype = values.dtype
    if id_type == "int64":
        if dtype.is_integer() or dtype == pl.Null:
            return values.cast(pl.Int64, strict=False)
        if dtype.is_float():
            return whole(values)
        return _integers(_decimal_text(values))
    if dtype.is_float():
        values = whole(values)
    text = _decimal_text(values)
    # An unclosed quote swallows the rows up to the next quote: no real id contains a line end.
    bad = text.str.contains("[\n\r]") | (text == NO_ID)
    size = text.str.len_bytes()
    bad = bad | (size < 1) | (size > MAX_ID_BYTES)
    return _where(text, ~bad) if bad.any() else text


def whole(values: pl.Series) -> pl.Series:
    """Converts floats that are exact integers to Int64; null elsewhere."""
    below = _EXACT_BELOW.get(type(values.dtype), _EXACT_BELOW[pl.Float32])
    exact = values.is_finite() & (values == values.floor()) & (values.abs() < below)
    return _where(values, exact).cast(pl.Int64)


def is_canonical(block: bytes, delimiter: str) -> bool:
    """Returns False if a field of these lines may be an integer that is not in canonical form.

    Parsers read ``007`` as 7 and leave no trace of it. This check looks only at the first and last bytes of each field,
    which is far cheaper than reading every id as text. Text that begins with a blank also gives False.
    """
    if b'"' in block and any(mark in block for mark in _QUOTED if delimiter.encode() not in mark):
        return False
    data = np.frombuffer(b"\n" + block + (b"" if block.endswith(b"\n") else b"\n") + b"\n", dtype=np.uint8)
    at = np.flatnonzero((data == ord(delimiter)) | (data == ord("\n")))[:-1]
    first = data[at + 1]
    before = data[at[1:] - 1]
    for blank in b" \t":
        if blank != ord(delimiter) and ((first == blank).any() or (before == blank).any()):
            return False
    if (first == ord("+")).any():
        return False
    zero = data[at[first == ord("0")] + 2]
    minus = data[at[first == ord("-")] + 2]
    digits = (zero >= ord("0")) & (zero <= ord("9"))
    return not digits.any() and not (minus == ord("0")).any()


def inexact(name: str) -> str:
    """The reason for whole numbers in a column of floats that cannot hold them exactly."""
    return f"{name} is too large to be exact as a float; write the column as integers or text"


def id_reasons(name: str, text: pl.Series, id_type: str) -> Iterator[tuple[pl.Series, str]]:
    """Yields (condition, reason) for invalid ids, in order of precedence; the last condition holds for all others."""
    yield text == NO_ID, f"{name} is missing (written as {NO_ID})"
    if id_type == "int64":
        yield text.is_in(NULL_LIKE), f"{name} {MARKED}"
        digits = text.str.strip_chars(" \t").str.contains(r"^-?[1-9][0-9]{18,}(\.0+)?$")
        yield digits, f"{name} is outside -2^63 to 2^63 - 1 {_KEEP_TEXT}"
        other = text.str.contains(r"^[ \t]*[+-]?[0-9]+[ \t]*$")
        yield other, f"{name} is an integer written in another way, such as 007, +7 or ' 7' {_KEEP_TEXT}"
        yield text.is_not_null(), f"{name} is not an integer {_KEEP_TEXT}"
    else:
        yield text.str.len_bytes() > MAX_ID_BYTES, f"{name} is longer than {MAX_ID_BYTES:,} bytes"
        yield text.str.contains("[\n\r]"), f"{name} holds a line end"
        yield text.is_not_null(), f"{name} is not a whole number"


def notice_ids(ids: pl.Series) -> list[Notice]:
    """Returns notices about unusual but valid ids in one column; integer ids give none."""
    if ids.dtype != pl.String or not len(ids):
        return []
    name = ids.name
    rare = (
        (
            "E+",
            f"{name} is written as 1.23E+15, as spreadsheets show long numbers; ids that differ in the digits that are "
            f"gone are one id now: export the log again with ids as text",
        ),
        (
            "e+",
            f"{name} is written as 1.23e+15, as programs write floats; ids that differ in the digits that are gone are "
            f"one id now: export the log again with ids as integers or text",
        ),
        (",", f"{name} is a number with commas between thousands, which stay part of the id"),
        (
            "\ufffd",
            f"{name} holds the sign for characters that were lost (\ufffd); ids that differ in them are one id now",
        ),
        ("\x00", f"{name} holds a zero byte, which stays part of the id"),
    )
    # One search for all of these signs is cheaper than one for each.
    signs = ids.str.contains_any([sign for sign, _ in rare]).any()
    unusual = (
        (ids.is_in(NULL_LIKE), f"{name} is written as NULL, None, nan or the like, and read as an id"),
        (
            ids.str.starts_with(" ") | ids.str.ends_with(" ") | ids.str.starts_with("\t") | ids.str.ends_with("\t"),
            f"{name} has blanks around it, which stay part of the id",
        ),
        (
            ids.str.ends_with(".0"),
            f"{name} is a number ending in .0, a different id from the number without .0",
        ),
        (
            ids.str.ends_with('"') & ids.str.starts_with('"'),
            f"{name} is in quotes, which stay part of the id (--quote '\"' removes them)",
        ),
        (
            ids.str.ends_with("'") & ids.str.starts_with("'"),
            f"{name} is in single quotes, which stay part of the id",
        ),
        *((ids.str.contains(sign, literal=True), what) for sign, what in rare if signs),
        (
            _unseen(ids),
            f"{name} holds characters that cannot be seen (no-break or zero-width blanks), which stay a part of the id",
        ),
    )
    notices = []
    for mask, what in unusual:
        for start, pattern in _CONFIRMED.items():
            if what.startswith(f"{name} {start}") and mask.any():
                mask = mask & ids.str.contains(pattern)
        count = int(mask.sum())
        if count:
            at: Any = mask.arg_max()
            notices.append(Notice(what=what, count=count, example=shown(ids[at])))
    return notices


def _unseen(ids: pl.Series) -> pl.Series:
    """Which ids hold such characters; of ids in ASCII alone, which most are, none is looked at."""
    if ids.str.len_bytes().sum() == ids.str.len_chars().sum():
        return pl.repeat(False, len(ids), eager=True)
    return ids.str.contains(_UNSEEN)


def _integers(text: pl.Series) -> pl.Series:
    numbers = text.cast(pl.Int64, strict=False)
    # An integer that prints differently from its text was not in canonical form.
    same = numbers.cast(pl.String) == text
    return numbers if same.all() else _where(numbers, same)


def _decimal_text(values: pl.Series) -> pl.Series:
    """Values as text; integral decimals without trailing zeros."""
    if values.dtype.is_decimal():
        return values.cast(pl.String).str.replace(r"\.0+$", "")
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def _where(values: pl.Series, mask: pl.Series) -> pl.Series:
    """``values`` where ``mask`` is true, null elsewhere."""
    return pl.select(pl.when(mask).then(values)).to_series().alias(values.name)
