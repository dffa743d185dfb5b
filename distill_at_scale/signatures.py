"""Signatures and classes generated from settings: help and completion show each setting with its type and default."""

from __future__ import annotations

import functools
import inspect
import operator
import textwrap
import typing
from collections.abc import Collection, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill_at_scale.errors import SettingError
from distill_at_scale.validation import did_you_mean

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


class Method:
    """A method that makes a dataset smaller, with its settings.

    Attributes:
        settings: The given settings.
    """

    name: ClassVar[str]
    takes: ClassVar[tuple[str, ...]]
    """Names of the settings."""

    def __init__(self, **settings: Any) -> None:
        """Takes the settings as keywords.

        Raises:
            SettingError: A setting is unknown.
        """
        if unknown := [key for key in settings if key not in self.takes]:
            raise SettingError(
                f"{type(self).__name__} has no setting '{unknown[0]}'; its settings are {', '.join(self.takes)}."
                f"{did_you_mean(unknown[0], self.takes)}"
            )
        self.settings = settings

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"

    def as_settings(self) -> dict[str, Any]:
        """Returns the verb's settings that correspond to this object."""
        raise NotImplementedError


def name_of_class(name: str, kind: str, names: Mapping[str, str]) -> str:
    """Returns the name of the method of a class in the namespace ``kind``.

    Raises:
        AttributeError: No class has that name; the message lists the known ones.
    """
    if name not in names:
        known = "" if name.startswith("_") else f"; the {kind} are {', '.join(names)}."
        raise AttributeError(f"module 'distill_at_scale.{kind}' has no attribute '{name}'{known}")
    return names[name]


def method_class(
    base: type[Any], title: str, name: str, settings: type[BaseModel], takes: tuple[str, ...], about: str
) -> type[Any]:
    """Returns a class of a method, with a signature and a docstring made from its settings.

    Args:
        base: Subclass of :class:`Method`.
        title: Name of the class.
        name: Name of the method.
        settings: Model with the settings.
        takes: Names of the settings that the class takes.
        about: First line of the docstring.
    """
    made = type(title, (base,), {"name": name, "takes": takes, "__doc__": about, "__module__": base.__module__})
    made.__signature__ = signature_of(settings, only=takes)  # type: ignore[attr-defined]
    made.__doc__ = f"{about}\n\nArgs:\n{settings_section(settings, only=takes)}"
    return made
