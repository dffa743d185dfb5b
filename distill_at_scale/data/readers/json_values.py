"""Values inside JSON objects: fields of nested objects by their path, ids as text, and what looks odd about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.schema import LogSchema

WRONG: Final = "line has an array, object, boolean or invalid text in place of an id, number or time"
_INEXACT: Final = "line has a number with a fraction, or too large for a float, where an id belongs"
_TWICE: Final = "line has the key '{key}' twice"
_FLOAT: Final = "{name} is a number with a point or an exponent in some objects, and read as the whole number"
_MIXED: Final = "{name} is a number in some objects and text in others (7 and '7'), which are read as one id"
_DEEPEST: Final = 8
_EXACT_BELOW: Final = 2**53


class WrongValue(Exception):
    """A value that cannot stand where it stands; its text is the reason."""


class Repeated(dict[str, Any]):
    """An object that has a key twice; its own value is the last one."""

    twice: frozenset[str] = frozenset()


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What ``json.loads`` makes of an object, without losing that a key comes twice."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    repeated = Repeated(values)
    seen: set[str] = set()
    repeated.twice = frozenset(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeated


def leaves(value: Mapping[str, Any], depth: int = 1) -> Iterator[str]:
    """The fields of an object; of an object in it its fields, as ``user.id``."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner and depth < _DEEPEST:
            yield from (f"{key}.{name}" for name in leaves(inner, depth + 1))
        else:
            yield key


def field_names(values: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields of all objects, in the order of their first appearance."""
    names = dict.fromkeys(name for value in values for name in leaves(value))
    parents = {name[:at] for name in names for at, sign in enumerate(name) if sign == "."}
    # Where one object has {"user": {"id": 1}} and another {"user": null}, the field "user" does not exist.
    empty = {name for name in parents & names.keys() if all(isinstance(v.get(name), dict | None) for v in values)}
    return tuple(name for name in names if name not in empty)


def value_at(value: Mapping[str, Any], name: str) -> Any:
    """The value of a field, which may be a path into objects; None where there is none.

    Raises:
        WrongValue: a key on the way comes twice.
    """
    if name in value:
        _refuse_repeated(value, name)
        return value[name]
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        top = ".".join(parts[:size])
        if top in value:
            _refuse_repeated(value, top)
            inner = value[top]
            return value_at(inner, ".".join(parts[size:])) if isinstance(inner, dict) else None
    return None


def _refuse_repeated(value: Mapping[str, Any], key: str) -> None:
    if isinstance(value, Repeated) and key in value.twice:
        raise WrongValue(_TWICE.format(key=key))


def as_text(value: Any) -> str | None:
    """A value as text, null as None.

    Raises:
        WrongValue: The value is an array, object or boolean, or text that is not Unicode.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WrongValue(WRONG) from None
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongValue(WRONG)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
        return str(int(value))
    return repr(value)


class Ids:
    """The ids of a block's objects as text, with a count of those that are written in another way than the others.

    Args:
        schema: how the log is read.
    """

    def __init__(self, schema: LogSchema) -> None:
        self._kinds = {c: schema.text_types.get(c, "string") for c in (Columns.USER_ID, Columns.ITEM_ID)}
        self._types = schema.id_types
        self._counts = {(c, kind): 0 for c in self._kinds for kind in (int, float, str)}
        self._examples: dict[tuple[str, type], str] = {}
        self._large = dict.fromkeys(self._kinds, False)

    def text(self, canonical: str, value: Any) -> str | None:
        """One id as text.

        Raises:
            WrongValue: it is none, or no exact number.
        """
        text = as_text(value)
        if text is None or canonical not in self._kinds:
            return text
        kind = type(value)
        if kind is float and not (value.is_integer() and abs(value) < _EXACT_BELOW):
            if self._types[canonical] == "string":
                raise WrongValue(_INEXACT)
            return text  # no integer, which has its own reason
        if (canonical, kind) not in self._examples:
            self._examples[canonical, kind] = shown(value) if kind is str else repr(value)
        self._counts[canonical, kind] += 1
        if kind is int and not -(2**63) <= value < 2**63:
            self._large[canonical] = True
        return text

    def noticed(self) -> list[Notice]:
        """What looks odd about them."""
        notices = []
        for c, kind in self._kinds.items():
            whole, other, text = (self._counts[c, one] for one in (int, float, str))
            if other:
                notices.append(Notice(what=_FLOAT.format(name=c), count=other, example=self._examples[c, float]))
            odd = str if kind == "int" else int
            # A column of numbers too large for 64 bits is read as text without being a mixture.
            mixed = bool(text) if kind == "int" else bool(whole) and (bool(text) or not (other or self._large[c]))
            if mixed:
                notices.append(
                    Notice(what=_MIXED.format(name=c), count=self._counts[c, odd], example=self._examples[c, odd])
                )
        return notices


def arrow_schema(types: Mapping[str, pa.DataType]) -> pa.Schema | None:
    """The columns that hold fields of these names and types; None where a name is also the path to another."""
    tree: dict[str, Any] = {}
    for name, dtype in types.items():
        *path, last = name.split(".")
        level = tree
        for step in path:
            level = level.setdefault(step, {})
            if not isinstance(level, dict):
                return None
        if last in level:
            return None
        level[last] = dtype
    return pa.schema(_struct(tree))


def _struct(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(name, pa.struct(_struct(inner)) if isinstance(inner, dict) else inner) for name, inner in tree.items()
    ]


def arrow_field(table: pa.Table, name: str) -> Any:
    """A field of a table that :func:`arrow_schema` describes."""
    top, *path = name.split(".")
    column: Any = table.column(top)
    for step in path:
        column = pc.struct_field(column, step)
    return column
