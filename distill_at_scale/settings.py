"""Assembles a verb's settings from options, keywords and a configuration file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from distill_at_scale import validation
from distill_at_scale.errors import SettingError
from distill_at_scale.validation import PlainWords, Words, explain

_Model = TypeVar("_Model", bound=BaseModel)


def settle(model: type[_Model], config: _Model | None, settings: dict[str, Any]) -> _Model:
    """Returns the settings of a verb called as a function: the config, updated by keywords.

    Raises:
        SettingError: As for :func:`load`.
    """
    if config is not None and not settings:
        return config
    # Not by model_dump, which leaves out what is never saved.
    given = {} if config is None else {name: getattr(config, name) for name in config.model_fields_set}
    return load(model, settings={**given, **settings})


def load(
    model: type[_Model], file: str | None = None, settings: dict[str, Any] | None = None, words: Words | None = None
) -> _Model:
    """Loads a verb's settings from a YAML file, overridden by ``settings``.

    Args:
        model: Model of the settings.
        file: Path or URI of the YAML file, if any.
        settings: Settings that take precedence over the file.
        words: Names of ``settings`` and of missing ones in messages; default: as in Python.

    Raises:
        SettingError: The file is not a YAML mapping, or settings are unknown, missing or wrong; the message names all
            of them.
    """
    settings = settings or {}
    content = {} if file is None else read_settings(file)
    try:
        return model.model_validate({**content, **settings})
    except ValidationError as error:
        raise SettingError(explain(error, model, _Sources(words or PlainWords(), settings, file))) from None


def parse(owner: str, model: type[_Model], given: Mapping[str, Any]) -> _Model:
    """Validates the settings of a model, sampler or distiller.

    Raises:
        SettingError: Settings are unknown or wrong; the message names the owner and all of them.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise SettingError(explain(error, model, PlainWords(owner))) from None


def read_settings(file: str) -> dict[str, Any]:
    """Reads a mapping from a YAML file, local or on any storage.

    Raises:
        SettingError: The file does not exist, cannot be read, or is not a YAML mapping.
    """
    try:
        if "://" in file:
            from distill_at_scale.data import storage  # slow to import, and not needed for completion

            text = storage.read_bytes(file)
        else:
            text = Path(file).read_bytes()
        content = yaml.safe_load(text)
    except (FileNotFoundError, IsADirectoryError):
        raise SettingError(f"{file}: no such configuration file.") from None
    except OSError as error:
        raise SettingError(f"{file}: the configuration file cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingError(f"{file}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict | None):
        raise SettingError(f"{file}: a mapping of settings is expected, such as `output: s3://bucket/data`.")
    content = content or {}
    if odd := [name for name in content if not isinstance(name, str)]:
        raise SettingError(f"{file}: setting {odd[0]!r} is not a name; write it as text, in quotes.")
    return content


class _Sources:
    """Names in messages for settings that partly come from a file."""

    def __init__(self, words: Words, given: Collection[str], file: str | None) -> None:
        self._words, self._given = words, given
        self._of_file = PlainWords(file or "")
        self._file = file

    def _of(self, field: str) -> Words:
        return self._words if self._file is None or field in self._given else self._of_file

    def name(self, field: str) -> str:
        return self._words.name(field)

    def value(self, field: str, given: str) -> str:
        return self._of(field).value(field, given)

    def unknown(self, field: str, known: Collection[str]) -> str:
        return self._of(field).unknown(field, known)


def seconds(text: str) -> float:
    """Converts a duration such as 90s, 30m, 2h or 1h30m to seconds.

    Raises:
        SettingError: The text is not a duration.
    """
    try:
        return validation.seconds(text)
    except ValueError as error:
        raise SettingError(f"time_budget: {error}.") from None
