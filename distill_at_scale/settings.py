"""How a verb's settings are put together: from keywords, a configuration file, or both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError, wrong_setting

_Model = TypeVar("_Model", bound=BaseModel)


def settle(model: type[_Model], config: _Model | None, settings: dict[str, Any]) -> _Model:
    """The settings of a verb that was called as a function: its config, changed and completed by keywords.

    Raises:
        DasError: as :func:`load`.
    """
    if config is not None and not settings:
        return config
    given = {} if config is None else config.model_dump(exclude_unset=True)
    return load(model, settings={**given, **settings})


def load(model: type[_Model], file: str | None = None, settings: dict[str, Any] | None = None) -> _Model:
    """A verb's settings out of a YAML file, overridden by ``settings``.

    Raises:
        DasError: when the file is no YAML mapping, or a setting is unknown, missing or wrong.
    """
    content: dict[str, Any] = {}
    if file is not None:
        try:
            found = yaml.safe_load(storage.read_bytes(file) if "://" in file else Path(file).read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            raise DasError(f"{file}: no such configuration file.") from None
        except OSError as error:
            raise DasError(f"{file}: the configuration file cannot be read: {error.strerror or error}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DasError(f"{file}: not valid YAML: {' '.join(str(error).split())}.") from None
        if not isinstance(found, dict | None):
            raise DasError(f"{file}: a mapping of settings was expected, as `output: s3://bucket/data`.")
        content |= found or {}
    content |= settings or {}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        field, problem = wrong_setting(error, model)
        where = f"{file}: " if file and field not in (settings or {}) else ""
        raise DasError(f"{where}{problem}.") from None


def seconds(text: str) -> float:
    """Seconds of a duration as 90s, 30m, 2h or 1h30m.

    Raises:
        DasError: for anything else.
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if not text.strip() or found is None:
        raise DasError(f"time_budget '{text}' is no duration; write it as 90s, 30m, 2h or 1h30m.")
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1)))
