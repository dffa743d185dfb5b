"""Verbs as functions, called with a config or with settings by position or name, and objects for addresses.

    das.fit(dataset, "ease", output="s3://bucket/ease")
    das.evaluate(dataset, das.models.Ease(lam=400).fit(dataset))

Their signatures and docstrings are made of the settings, which are defined once, in `config`.
"""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill_at_scale import logs
from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.runtime.launch import launch
from distill_at_scale.settings import settle
from distill_at_scale.signatures import settings_section, signature_of
from distill_at_scale.validation import bare

R = TypeVar("R")


def verb(
    settings: type[BaseModel], *positional: str, objects: Collection[str] = (), here: bool = False
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Makes a verb of a function that takes its config.

    The verb takes the config, or the config and changes to it, or settings alone. In the place of an address it takes
    what lies there: a Dataset, a SyntheticDataset, or a result with a ``uri``.

    Args:
        settings: the verb's settings.
        positional: those that may be given without their name, in this order.
        objects: those whose value may be in memory only, as a fitted model; the function takes them as keywords, None
            where an address was given.
        here: whether it runs in this process whatever cluster it is told of, as one that looks at the connection.
    """

    def decorate(run: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(run)
        def call(*args: Any, **given: Any) -> R:
            config = args[0] if args and isinstance(args[0], settings) else None
            given = _named(run.__name__, positional, args[config is not None :], given)
            held = dict.fromkeys(objects)
            for name in objects:
                if _is_in_memory(given.get(name)):
                    held[name] = given[name]
                    given[name] = f"{given[name].name} (in memory)"
            config = settle(settings, config, _addresses(run.__name__, settings, given))
            with logs.shown_by_default():
                return run(config, **held) if here else launch(run, config, **held)

        returns = inspect.signature(run).return_annotation
        call.__signature__ = signature_of(settings, positional, returns)  # type: ignore[attr-defined]
        call.__doc__ = _documented(run, settings, positional)
        call.settings, call.objects = settings, tuple(objects)  # type: ignore[attr-defined]
        return call

    return decorate


def _named(verb: str, positional: tuple[str, ...], args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """All settings by their names."""
    if len(args) > len(positional):
        takes = f"only {', '.join(positional)}" if positional else "no settings"
        raise SettingError(f"{verb}: {takes} can be given by position; name the others, as output=URI.")
    if twice := [name for name in positional[: len(args)] if name in given]:
        raise SettingError(f"{verb}: {twice[0]} is given twice, by position and by name.")
    return {**dict(zip(positional, args)), **given}


def _is_in_memory(value: Any) -> bool:
    return hasattr(value, "score") and hasattr(value, "name")


def _addresses(verb: str, settings: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with addresses in the place of objects."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        field = settings.model_fields.get(name)
        own = value.as_settings() if hasattr(value, "as_settings") else {}
        if name in own:
            # A model, sampler or distiller with its settings: those that are given beside it win.
            found = {**own, **found}
        elif field is not None and _holds_text(field):
            found[name] = (
                [_address(verb, name, one) for one in _several(value)]
                if _is_list(field) and value is not None
                else _address(verb, name, value)
            )
        else:
            found[name] = value
    return found


def _is_list(field: FieldInfo) -> bool:
    return typing.get_origin(bare(field)) is list


def _holds_text(field: FieldInfo) -> bool:
    kind = bare(field)
    return kind is str or (_is_list(field) and typing.get_args(kind)[0] is str)


def _several(value: Any) -> list[Any]:
    """The parts of what is given for a list: one thing, several, or what holds several, as samples of one run do."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return [part for one in value for part in _several(one)]
    samples = getattr(value, "samples", None)
    return list(samples) if isinstance(samples, list) else [value]


def _address(verb: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    uri = getattr(value, "uri", None)
    if isinstance(uri, str):
        return uri
    if hasattr(value, "__arrow_c_stream__"):
        raise SettingError(f"{verb}: {name} takes a Dataset or its address; make one of a frame by Dataset.from_frame.")
    if _is_in_memory(value):
        raise SettingError(f"{verb}: {name} takes an address; save the model there first, by model.save(URI).")
    raise SettingError(f"{verb}: {name} takes an address or an object that has one, not a {type(value).__name__}.")


def _documented(run: Callable[..., Any], settings: type[BaseModel], positional: tuple[str, ...]) -> str:
    """The function's docstring with its settings before what it raises."""
    about, mark, raises = inspect.cleandoc(run.__doc__ or "").partition("\n\nRaises:")
    return f"{about}\n\nArgs:\n{settings_section(settings, positional)}{mark}{raises}"
