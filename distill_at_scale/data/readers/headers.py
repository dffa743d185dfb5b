"""Detects whether the first line of a text file holds column names or data, and suggests ``--columns``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.data.readers.time_formats import possible_formats

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}([T ].*)?")
_DATE_LIKE: Final = re.compile(r"[0-9]{4}([-/])[0-9]{2}\1[0-9]{2}.*|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}.*")
_DIGITS: Final = re.compile(r"[0-9]{9,19}(\.[0-9]*)?")
# Seconds since 1970 from 1995 to 2035, in s, ms, us and ns; and .NET's ticks of these years.
_SECONDS: Final = (788_918_400, 2_051_222_400)
_TICKS: Final = (629_245_152_000_000_000, 641_868_192_000_000_000)
_TIMES_COMPARED: Final = 20
# Of a scale of stars, points, per cent, or of Jester's -10 to 10; offsets of time zones lie outside.
_RATINGS: Final = (-10, 100)
# Number of rows whose value shapes are compared.
_COMPARED: Final = 200
_MOST_RATINGS: Final = 21
# Of more fields the names are not suggested one by one.
_MOST_SHOWN: Final = 16


def holds_data(first: Sequence[str], rows: Sequence[Sequence[str]], mapping: Mapping[str, str]) -> bool:
    """Returns whether the first line, expected to be the header, is a data row.

    Args:
        first: Fields of the first line.
        rows: Fields of the following lines.
        mapping: The user's ``--map``; fields that it names are taken as names unless they look like values.
    """
    named = [k for k, field in enumerate(first) if field in mapping.values()]
    if not named and known_names(first, {}) >= 2:
        return False
    columns = _by_column(first, rows)
    return any(_is_value(first[k], columns[k]) for k in named or range(len(first)))


def holds_names(first: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[str]) -> bool:
    """Returns whether the first line is a header although the user named the columns.

    Args:
        first: Fields of the first line.
        rows: Fields of the following lines.
        columns: The user's names.
    """
    if known_names(first, {}) >= 2 or sum(field in columns for field in first) >= 2:
        return True
    by_column = _by_column(first, rows)
    if any(_is_value(field, values) for field, values in zip(first, by_column)):
        return False
    # A non-number above a column of numbers is a name.
    return any(
        field and values and all(map(_NUMBER.fullmatch, values)) and not _NUMBER.fullmatch(field)
        for field, values in zip(first, by_column)
    )


def suggested(rows: Sequence[Sequence[str]]) -> str:
    """Suggests ``--columns`` for rows of this width."""
    width = max(map(len, rows))
    columns = _by_column([""] * width, rows)
    names = [f"column{k + 1}" for k in range(width)]
    times = [k for k, values in enumerate(columns) if values and _are_times(values)]
    if times and width > 2:
        names[times[0]] = Columns.TIMESTAMP
    # Among more columns a few numbers may be anything: a latitude, a category.
    ratings = [
        k
        for k, values in enumerate(columns)
        if width <= 4
        and k > 1
        and k not in times[:1]
        and all(map(_NUMBER.fullmatch, values))
        and len(set(values)) <= _MOST_RATINGS
        and all(_RATINGS[0] <= float(value) <= _RATINGS[1] for value in values)
    ]
    if ratings:
        names[ratings[0]] = Columns.RATING
    left = [k for k, name in enumerate(names) if name.startswith("column")]
    if width > _MOST_SHOWN:
        return f"and one name for each of the {width} fields, user_id and item_id among them"
    if width > 4:
        # With more than four columns the first two may not be the ids: do not guess.
        return " ".join(names) + " with user_id and item_id in the place of two of them"
    for k, name in zip(left, (Columns.USER_ID, Columns.ITEM_ID)):
        names[k] = name
    return " ".join(names)


def _are_times(values: Sequence[str]) -> bool:
    """Returns whether values are dates, in any format that is recognised, or numbers that count a time of our days."""
    if all(map(_DATE_LIKE.fullmatch, values)):
        return True
    if all(map(_DIGITS.fullmatch, values)):
        return all(map(_is_count, map(float, values)))
    first = list(values[:_TIMES_COMPARED])
    # Formats are made of digits between other characters: decimal numbers are none, and ids have no such marks.
    return all(re.search(r"[0-9]", text) and re.search(r"[ :/]", text) for text in first) and bool(
        possible_formats(first)
    )


def _is_count(value: float) -> bool:
    return _TICKS[0] <= value < _TICKS[1] or any(
        _SECONDS[0] <= value / scale < _SECONDS[1] for scale in (1, 1e3, 1e6, 1e9)
    )


def _by_column(first: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns the first values of each column, excluding lines equal to the first and empty values."""
    whole = [row for row in rows if len(row) == len(first) and list(row) != list(first)][:_COMPARED]
    return [[row[k].strip() for row in whole if row[k].strip()] for k in range(len(first))]


def _is_value(field: str, values: Sequence[str]) -> bool:
    """Returns whether a field of the first line looks like the values below it."""
    field = field.strip()
    if not field:
        return False
    if _NUMBER.fullmatch(field) or _DATE.fullmatch(field) or field in values:
        return True
    shape = _shape(field)
    alike = sum(_shape(value) == shape for value in values)
    return "9" in shape and len(values) > 0 and alike >= 0.9 * len(values)


def _shape(text: str) -> str:
    """Reduces text to its runs of letters and digits: ``B000001`` becomes ``A9``."""
    return re.sub(r"[^\W\d_]+", "A", re.sub(r"[0-9]+", "9", text))
