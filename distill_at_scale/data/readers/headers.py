"""Column names or data: what the first line of a text file holds, and what to say if it is not what was thought."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.fields import known_names

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}([T ].*)?")
_TIME_LIKE: Final = re.compile(r"[0-9]{9,19}(\.[0-9]*)?|[0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}.*")
# Shapes of values are compared on as many rows.
_COMPARED: Final = 200
_MOST_RATINGS: Final = 21


def holds_data(first: Sequence[str], rows: Sequence[Sequence[str]], mapping: Mapping[str, str]) -> bool:
    """Whether the first line, which would name the columns, is a row like the others.

    Args:
        first: its fields.
        rows: the lines behind it.
        mapping: the user's ``--map``; fields that it names are held to be names unless they look like values.
    """
    named = [k for k, field in enumerate(first) if field in mapping.values()]
    if not named and known_names(first, {}) >= 2:
        return False
    columns = _by_column(first, rows)
    return any(_is_value(first[k], columns[k]) for k in named or range(len(first)))


def holds_names(first: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[str]) -> bool:
    """Whether the first line names the columns, although the user named them.

    Args:
        first: its fields.
        rows: the lines behind it.
        columns: the user's names.
    """
    if known_names(first, {}) >= 2 or sum(field in columns for field in first) >= 2:
        return True
    by_column = _by_column(first, rows)
    if any(_is_value(field, values) for field, values in zip(first, by_column)):
        return False
    # In front of a column of numbers stands a name.
    return any(
        field and values and all(map(_NUMBER.fullmatch, values)) and not _NUMBER.fullmatch(field)
        for field, values in zip(first, by_column)
    )


def suggested(rows: Sequence[Sequence[str]]) -> str:
    """The ``--columns`` that rows of this width may want."""
    width = max(map(len, rows))
    columns = _by_column([""] * width, rows)
    names = [f"column{k + 1}" for k in range(width)]
    times = [k for k, values in enumerate(columns) if values and all(map(_TIME_LIKE.fullmatch, values))]
    if times and width > 2:
        names[times[0]] = Columns.TIMESTAMP
    ratings = [
        k
        for k, values in enumerate(columns)
        if k > 1 and k not in times[:1] and all(map(_NUMBER.fullmatch, values)) and len(set(values)) <= _MOST_RATINGS
    ]
    if ratings:
        names[ratings[0]] = Columns.RATING
    left = [k for k, name in enumerate(names) if name.startswith("column")]
    if width > 4:
        # Of so many columns the first two need not be the ids: what cannot be told is not guessed.
        return " ".join(names) + " with user_id and item_id in the place of two of them"
    for k, name in zip(left, (Columns.USER_ID, Columns.ITEM_ID)):
        names[k] = name
    return " ".join(names)


def _by_column(first: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first values of each column, without lines that repeat the first and without empty values."""
    whole = [row for row in rows if len(row) == len(first) and list(row) != list(first)][:_COMPARED]
    return [[row[k].strip() for row in whole if row[k].strip()] for k in range(len(first))]


def _is_value(field: str, values: Sequence[str]) -> bool:
    """Whether a field of the first line looks like those below it."""
    field = field.strip()
    if not field:
        return False
    if _NUMBER.fullmatch(field) or _DATE.fullmatch(field) or field in values:
        return True
    shape = _shape(field)
    alike = sum(_shape(value) == shape for value in values)
    return "9" in shape and len(values) > 0 and alike >= 0.9 * len(values)


def _shape(text: str) -> str:
    """``B000001`` as ``A9``: runs of letters and of digits."""
    return re.sub(r"[^\W\d_]+", "A", re.sub(r"[0-9]+", "9", text))
