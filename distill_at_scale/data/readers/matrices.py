"""Rejects matrices: a line for each user and a field for each item, with or without a header of item ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.errors import DasError

_NUMBER: Final = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMPARED: Final = 200
_MOST_RATINGS: Final = 21
# A row of a matrix has at least this many fields, mostly numbers or empty.
_LEAST_ITEMS: Final = 10
_LEAST_ROWS: Final = 3
# What stands for a missing rating if it is the most frequent number by far, as in Jester (99) and WS-DREAM (-1).
_MARKS: Final = (0, -1, 99)
_LEAST_MARKED: Final = 0.15


def refuse_matrix(name: str, file: str, first: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> None:
    """Rejects the lines of a matrix.

    Args:
        name: Name of the file for the message.
        file: Its last part, for the command.
        first: Fields of the first line.
        rows: Fields of the following lines.
        delimiter: Delimiter between fields.

    Raises:
        DasError: Names the file and the command that writes a row for each rating.
    """
    headed = _headed(first, rows)
    if not headed and not _bare(first, rows):
        return
    mark = _mark([field for row in rows for field in row[1:]])
    read = f"pl.read_csv('{file}', separator='{_escaped(delimiter)}', infer_schema=False"
    if headed:
        read += f").rename({{'{first[0]}': 'user_id'}})"
    else:
        read += ", has_header=False).with_row_index('user_id')"
    keep = "" if mark is None else f".filter(pl.col('rating').cast(pl.Float64, strict=False) != {mark})"
    command = (
        f"python -c \"import polars as pl; {read}.unpivot(index='user_id', variable_name='item_id', "
        f"value_name='rating').drop_nulls(){keep}.write_csv('ROWS.csv')\""
    )
    said = "" if mark is None else f", without the {mark} of missing ratings"
    header = "" if headed else ", without a header; a first column that only counts is not an item"
    raise DasError(
        f"{name}: this looks like a matrix, with a line for each user and a column for each item "
        f"({delimiter.join(first)[:50]} …){header}; write a row for each rating{said}, with `{command}`, or name its "
        f"columns with {'--map' if headed else '--columns'}."
    )


def _headed(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    values = _values([row[1:] for row in rows if len(row) == len(first)])
    return (
        len(first) > _LEAST_ITEMS
        and len(set(first)) == len(first)
        and not _NUMBER.fullmatch(first[0])
        and _are_ratings(values)
        and known_names(first[1:], {}) == 0
    )


def _bare(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether all lines, the first too, are numbers or empty, and mostly marks or empty where none is rated."""
    lines = [row for row in (first, *rows) if len(row) == len(first)]
    values = _values(lines)
    if len(first) <= _LEAST_ITEMS or len(lines) < _LEAST_ROWS or not _are_ratings(values):
        return False
    fields = [field.strip() for line in lines for field in line]
    return _mark(fields) is not None or fields.count("") > _LEAST_MARKED * len(fields)


def _values(lines: Sequence[Sequence[str]]) -> list[str]:
    return [value for line in lines[:_COMPARED] for field in line if (value := field.strip())]


def _are_ratings(values: Sequence[str]) -> bool:
    """Returns whether values are numbers: a few, or many of which one marks the missing ones."""
    if not values or not all(map(_NUMBER.fullmatch, values)):
        return False
    return len(set(values)) <= _MOST_RATINGS or _mark(values) is not None


def _mark(values: Sequence[str]) -> int | None:
    """Returns the number that stands for a missing rating, if one does."""
    numbers = [value for field in values if (value := field.strip()) and _NUMBER.fullmatch(value)]
    if not numbers:
        return None
    value, count = Counter(numbers).most_common(1)[0]
    number = float(value.replace(",", "."))
    return int(number) if number in _MARKS and count >= _LEAST_MARKED * len(numbers) else None


def _escaped(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter
