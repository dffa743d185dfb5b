"""Messages for wrong settings: pydantic's errors as sentences, with the names by which the settings were given."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Protocol

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from distill_at_scale.errors import SettingError
from distill_at_scale.uris import redact_text

_LONGEST = 60
"""Maximum number of characters of a wrong value in a message."""


# -- names --------------------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    return name.strip().casefold().replace("-", "_")


def same_name(given: str, known: Iterable[str]) -> str | None:
    """Returns the entry of ``known`` that equals ``given``, ignoring case and treating - as _; None if there is
    none."""
    names = list(known)
    if given in names:
        return given
    alike = [name for name in names if _plain(name) == _plain(given)]
    return alike[0] if len(alike) == 1 else None


def closest(given: str, known: Iterable[str]) -> str | None:
    """Returns the entry of ``known`` of which ``given`` is probably a misspelling; None if none is close."""
    names = {_plain(name): name for name in known}
    found = difflib.get_close_matches(_plain(given), list(names), n=1, cutoff=0.6)
    if found:
        return names[found[0]]
    # A prefix of exactly one name, such as `infinite` of infinite_ae.
    parts = [name for plain, name in names.items() if len(given) > 2 and plain.startswith(_plain(given))]
    return parts[0] if len(parts) == 1 else None


def did_you_mean(given: str, known: Iterable[str], spelled: Callable[[str], str] = "'{}'".format) -> str:
    """Returns `` Did you mean 'ease'?``, with a leading space; empty if no name is close."""
    near = closest(given, known)
    return f" Did you mean {spelled(near)}?" if near is not None else ""


def not_one_of(given: str, known: Sequence[str]) -> str:
    """Returns a message such as ``'eese' is not one of ease, mf. Did you mean 'ease'?``"""
    return f"{_shown(given)} is not one of {', '.join(known)}.{did_you_mean(given, known)}"


@dataclass(frozen=True)
class OneOf:
    """Marks a setting whose value is a name in a table, as in ``Annotated[str, OneOf(lambda: MODELS)]``.

    Names are case-insensitive and normalised to the spelling of the table.
    """

    names: Callable[[], Iterable[str]]
    """Returns the names; called when a value is validated or completed."""
    spec: Callable[[str], Any] | None = None
    """Validates a ``package.module:Class``; raises a SettingError if it cannot be used. None: only names are
    allowed."""
    prefix: str | None = None
    """Values that begin with it are also allowed, as they are."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, given: str) -> str:
        if self.prefix is not None and given.startswith(self.prefix):
            return given
        if self.spec is not None and ":" in given:
            try:
                self.spec(given.strip())
            except SettingError as error:
                raise PydanticCustomError("not_one_of", "{sentence}", {"sentence": str(error)}) from error
            return given.strip()
        known = list(self.names())
        name = same_name(given, known)
        if name is None:
            raise PydanticCustomError("not_one_of", "{sentence}", {"sentence": not_one_of(given, known)})
        return name


def bare(field: FieldInfo) -> Any:
    """Returns the type of a field without None."""
    kind = field.annotation
    if isinstance(kind, UnionType) or typing.get_origin(kind) is typing.Union:
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        return kinds[0] if len(kinds) == 1 else kind
    return kind


def choices_of(field: FieldInfo) -> list[str] | None:
    """Returns the values that a setting, or each element of a list, can take; None if they are not limited."""
    if (mark := _table(field)) is not None:
        return list(mark.names())
    kind = _each(field)
    return [str(value) for value in typing.get_args(kind)] if typing.get_origin(kind) is Literal else None


def has_choices(field: FieldInfo) -> bool:
    """Returns whether :func:`choices_of` is not None, without looking up the choices."""
    return _table(field) is not None or typing.get_origin(_each(field)) is Literal


def _each(field: FieldInfo) -> Any:
    """Returns the type of a field, or of the elements of a list."""
    kind = bare(field)
    return typing.get_args(kind)[0] if typing.get_origin(kind) in (list, tuple) else kind


def _table(field: FieldInfo) -> OneOf | None:
    kind = _each(field)
    of_each = typing.get_args(kind)[1:] if typing.get_origin(kind) is typing.Annotated else ()
    return next((mark for mark in (*field.metadata, *of_each) if isinstance(mark, OneOf)), None)


# -- problems -----------------------------------------------------------------------------------------------


class Words(Protocol):
    """Names of settings in messages; they depend on how the settings were given."""

    def name(self, field: str) -> str:
        """Returns the name of a setting, for a list of several."""

    def value(self, field: str, given: str) -> str:
        """Returns the beginning of a sentence on a wrong value."""

    def unknown(self, field: str, known: Collection[str]) -> str:
        """Returns the sentence on a setting that does not exist."""


class PlainWords:
    """Wording for keywords, configuration files and settings of models and methods: ``setting 'lam'``.

    Args:
        of: Owner or file of the settings; sentences begin with it.
    """

    def __init__(self, of: str = "") -> None:
        self._where = f"{of}: " if of else ""

    def name(self, field: str) -> str:
        return f"'{field}'"

    def value(self, field: str, given: str) -> str:
        return f"{self._where}setting '{field}': {given}"

    def unknown(self, field: str, known: Collection[str]) -> str:
        names = ", ".join(sorted(known)) or "none"
        return f"{self._where}unknown setting '{field}'; the settings are: {names}.{did_you_mean(field, known)}"


def explain(error: ValidationError, model: type[BaseModel], words: Words | None = None) -> str:
    """Returns all errors of pydantic as sentences: unknown settings, missing ones, and wrong values.

    Args:
        error: Pydantic's error.
        model: Model of the settings.
        words: Names of the settings in messages; default: as in Python.
    """
    words = words or PlainWords()
    errors = error.errors(include_url=False)
    unknown = [str(e["loc"][0]) for e in errors if e["type"] == "extra_forbidden"]
    missing = [str(e["loc"][0]) for e in errors if e["type"] == "missing" and len(e["loc"]) == 1]
    # A misspelt required setting is also missing under its right name; only the misspelling is reported.
    meant = {closest(name, model.model_fields) for name in unknown}
    sentences = [words.unknown(name, model.model_fields) for name in unknown]
    if absent := [name for name in missing if name not in meant]:
        sentences.append(_missing(absent, model, words))
    seen: set[tuple[Any, ...]] = set()
    for e in errors:
        if e["type"] in ("extra_forbidden", "missing") and len(e["loc"]) == 1:
            continue
        # Unions report the same value once per member; elements of a list are distinguished by their positions.
        place = tuple(part for k, part in enumerate(e["loc"]) if k == 0 or isinstance(part, int))
        if place not in seen:
            seen.add(place)
            sentences.append(_wrong(typing.cast(dict[str, Any], e), model, words))
    return " ".join(sentences)


def _missing(names: Sequence[str], model: type[BaseModel], words: Words) -> str:
    spelled = [words.name(name) for name in names]
    if len(spelled) == 1:
        meaning = _brief(model.model_fields[names[0]].description)
        meaning = meaning[:1].lower() + meaning[1:]
        return f"{spelled[0]} is missing{f' ({meaning})' if meaning else ''}."
    return f"{', '.join(spelled[:-1])} and {spelled[-1]} are missing."


def _wrong(error: dict[str, Any], model: type[BaseModel], words: Words) -> str:
    reason, loc = _reason(error, model), error["loc"]
    if not loc:
        # Validators of several settings quote their names.
        named = (name for name in model.model_fields if f"'{name}'" in reason)
        for name in named:
            reason = reason.replace(f"'{name}'", words.name(name))
        return reason if reason.endswith((".", "?")) else f"{reason}."
    field = str(loc[0])
    if error["type"] in ("value_error", "not_one_of"):
        # These messages already contain the value.
        text = words.value(field, reason)
    else:
        text = words.value(field, f"{_shown(error['input'])} {reason}")
    return text if text.endswith((".", "?")) else f"{text}."


_BOUNDS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
_KINDS = {
    "int": "is not a whole number",
    "float": "is not a number",
    "bool": "is neither true nor false",
    "string": "is not text",
    "list": "is not a list",
    "tuple": "is not a list",
    "dict": "is not a mapping of names to values",
    "finite": "is not finite",
}


def _reason(error: dict[str, Any], model: type[BaseModel]) -> str:
    kind, context = str(error["type"]), error.get("ctx", {})
    field = model.model_fields.get(str(error["loc"][0])) if error["loc"] else None
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{words} {context[bound]:g}" if abs(context[bound]) < 1e6 else f"{words} {context[bound]}"
    if kind == "literal_error":
        known = (choices_of(field) if field else None) or [context.get("expected", "")]
        return f"is not one of {', '.join(known)}.{did_you_mean(str(error['input']), known)}"
    if kind == "too_short":
        n = context["min_length"]
        return f"holds too few values; give at least {'one' if n == 1 else 'two' if n == 2 else n}"
    if kind in ("string_too_short", "string_too_long"):
        n = context.get("min_length", context.get("max_length"))
        return f"must have {'one character' if n == 1 else f'{n} characters'}"
    if kind == "string_pattern_mismatch":
        meaning = _brief(field.description) if field else ""
        return f"does not have the required form{f' ({meaning})' if meaning else ''}"
    if (what := _KINDS.get(kind.split("_")[0])) and kind not in ("list_unique",):
        return what
    return str(error["msg"]).removeprefix("Value error, ")


def _brief(meaning: str | None) -> str:
    """Returns the first clause of a setting's docstring."""
    return re.split(r"[.;](?:\s|$)", " ".join((meaning or "").split()))[0]


def _shown(value: Any) -> str:
    """Formats a wrong value for a message, without credentials and shortened; names in a list as they are typed."""
    if value and isinstance(value, list) and all(isinstance(one, str) for one in value):
        text = redact_text(",".join(value))
    else:
        text = redact_text(repr(value) if not _is_number(value) else str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


# -- types in words ------------------------------------------------------------------------------------------


def kind_of(field: FieldInfo) -> str:
    """Returns a setting's type and range in words, such as ``whole number, at least 1``."""
    kind = bare(field)
    text = ", ".join([_kind(kind, choices_of(field)), *_bounds(field.metadata)])
    return f"{text}, or none" if type(None) in typing.get_args(field.annotation) else text


def _kind(kind: Any, choices: list[str] | None) -> str:
    origin = typing.get_origin(kind)
    if choices is not None and origin is not list:
        return f"one of {', '.join(choices)}"
    if origin in (list, tuple):
        return "list"
    if origin is dict or kind is dict:
        return "mapping"
    if isinstance(kind, UnionType) or origin is typing.Union:
        return " or ".join(_kind(one, None) for one in typing.get_args(kind) if one is not type(None))
    if origin is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(kind, str(kind))


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for mark in metadata:
        for bound, words in _BOUNDS.values():
            if (value := getattr(mark, bound, None)) is not None:
                yield f"{words.removeprefix('must be ')} {value}"


def seconds(text: str) -> float:
    """Converts a duration such as 90s, 30m, 2h or 1h30m to seconds.

    Raises:
        ValueError: The text is not a duration.
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if not text.strip() or found is None:
        raise ValueError(f"'{text}' is not a duration; write it as 90s, 30m, 2h or 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1)))
