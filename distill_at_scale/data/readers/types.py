"""Infers a column's type from its first values: integers, other numbers, or text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from distill_at_scale.data.ids import NO_ID, NULL_LIKE

# Canonical integers; "007", "+7" and " 7" may mean something else than 7 in the source system.
_CANONICAL: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")


def id_kind(values: Sequence[Any], typed: bool) -> Literal["int", "string"] | None:
    """Returns ``"int"`` if every value is an integer in canonical form, else ``"string"``; None without values.

    Args:
        values: Text, or (typed) the values of JSON objects, where "7" is text and 7 an integer.
        typed: Whether the format itself distinguishes text from numbers.
    """
    ids = present(values)
    if not ids:
        return "string" if any(values) else None
    if typed:
        integers = all(isinstance(value, int) and not isinstance(value, bool) for value in ids)
    else:
        integers = all(map(_CANONICAL.fullmatch, ids))
    if not integers or min(map(int, ids)) < -(2**63) or max(map(int, ids)) >= 2**63:
        return "string"
    return "int"


def not_integers(values: Sequence[str]) -> list[str]:
    """The values of a column of text that are written in another way than a program prints an integer."""
    return [value for value in present(values) if not _CANONICAL.fullmatch(value)]


def present(values: Sequence[Any]) -> list[Any]:
    """Drops the markers of missing values, which do not turn a column of integers into text."""
    return [value for value in values if value is not None and value not in ("", NO_ID, *NULL_LIKE)]


def number_kind(values: Sequence[Any], typed: bool) -> Literal["int", "float", "string"] | None:
    """Returns the narrowest of int, float, string that holds every value; None without values."""
    known = [value for value in values if value is not None and value != ""]
    if not known:
        return None
    if id_kind(known, typed) == "int":
        return "int"
    if typed:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    else:
        numbers = all(map(_FLOAT.fullmatch, known))
    return "float" if numbers else "string"
