"""Signatures made of settings: `help`, `inspect.signature` and completion show each with its type and default."""

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


def signature_of(
    settings: type[BaseModel],
    positional: Sequence[str] = (),
    returns: Any = inspect.Signature.empty,
    only: Collection[str] | None = None,
) -> inspect.Signature:
    """What a function that takes these settings looks like.

    Args:
        settings: a parameter for each field.
        positional: fields that may be given without their name, in this order; the others are keywords.
        returns: the annotation of what it gives back.
        only: those of the fields that it takes; default: all.
    """
    fields = settings.model_fields
    parameters = [_parameter(name, fields[name], name in positional) for name in order_of(settings, positional, only)]
    return inspect.Signature(parameters, return_annotation=returns)


def order_of(
    settings: type[BaseModel], positional: Sequence[str] = (), only: Collection[str] | None = None
) -> list[str]:
    """The settings as people read them: first the positional ones, then what must be given, last where it runs."""
    fields = settings.model_fields
    others = [name for name in fields if name not in positional and (only is None or name in only)]
    return [*positional, *sorted(others, key=lambda name: (not fields[name].is_required(), name == "address"))]


def _parameter(name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
    default = inspect.Parameter.empty if field.is_required() else default_of(field)
    return inspect.Parameter(name, kind, annotation=plain_type(field.annotation), default=default)


def default_of(field: FieldInfo) -> Any:
    """The value of a setting that is not given."""
    return field.get_default(call_default_factory=True)


def plain_type(kind: Any) -> Any:
    """A type without its validators: ``str`` of ``Annotated[str, OneOf(…)]``, also inside of others."""
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
    """The settings as the "Args" of a docstring: name, meaning, default."""
    lines = []
    for name in order_of(settings, positional, only):
        field = settings.model_fields[name]
        meaning = " ".join((field.description or "").split())
        default = "" if field.is_required() or "Default:" in meaning else f" Default: {default_of(field)!r}."
        lines.append(
            textwrap.fill(f"{name}: {meaning}{default}", 110, initial_indent="    ", subsequent_indent=" " * 8)
        )
    return "\n".join(lines)
