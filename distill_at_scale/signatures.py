"""Signatures generated from settings: `help`, `inspect.signature` and completion show each with type and default."""

from __future__ import annotations

import functools
import inspect
import operator
import textwrap
import typing
from collections.abc import Collection, Sequence
from types import UnionType
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

WHERE = ("address", "wait_for_nodes")
"""Settings that say where a verb runs, not what it does: people read them last."""


def signature_of(
    settings: type[BaseModel],
    positional: Sequence[str] = (),
    returns: Any = inspect.Signature.empty,
    only: Collection[str] | None = None,
) -> inspect.Signature:
    """Returns the signature of a function that takes these settings.

    Args:
        settings: Model of the settings; each field becomes a parameter.
        positional: Fields that may be passed by position, in this order; the others are keyword-only.
        returns: Return annotation.
        only: Fields that the function takes; default: all.
    """
    fields = settings.model_fields
    parameters = [_parameter(name, fields[name], name in positional) for name in order_of(settings, positional, only)]
    return inspect.Signature(parameters, return_annotation=returns)


def order_of(
    settings: type[BaseModel], positional: Sequence[str] = (), only: Collection[str] | None = None
) -> list[str]:
    """Returns the settings in the order for readers: positional ones, required ones, others, and the address last."""
    fields = settings.model_fields
    others = [name for name in fields if name not in positional and (only is None or name in only)]
    return [*positional, *sorted(others, key=lambda name: (not fields[name].is_required(), name in WHERE))]


def _parameter(name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
    default = inspect.Parameter.empty if field.is_required() else default_of(field)
    return inspect.Parameter(name, kind, annotation=plain_type(field.annotation), default=default)


def default_of(field: FieldInfo) -> Any:
    """Returns the default of a setting."""
    return field.get_default(call_default_factory=True)


def plain_type(kind: Any) -> Any:
    """Removes validators from a type, also in nested types: ``Annotated[str, OneOf(…)]`` becomes ``str``."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return plain_type(inner[0])
    if origin is typing.Literal or not inner:
        return kind
    plain = tuple(Ellipsis if one is Ellipsis else plain_type(one) for one in inner)
    if plain == inner:
        return kind
    if origin in (typing.Union, UnionType):
        return functools.reduce(operator.or_, plain)
    return origin[plain]


def settings_section(
    settings: type[BaseModel], positional: Sequence[str] = (), only: Collection[str] | None = None
) -> str:
    """Returns the settings as the "Args" section of a docstring: name, meaning, default."""
    lines = []
    for name in order_of(settings, positional, only):
        field = settings.model_fields[name]
        meaning = " ".join((field.description or "").split())
        default = "" if field.is_required() or "Default:" in meaning else f" Default: {default_of(field)!r}."
        lines.append(
            textwrap.fill(f"{name}: {meaning}{default}", 110, initial_indent="    ", subsequent_indent=" " * 8)
        )
    return "\n".join(lines)
