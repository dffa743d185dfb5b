"""settings: lists the settings of a model, sampler or distiller."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill_at_scale.config import SettingsConfig
from distill_at_scale.pipelines.runtime.own_settings import model_of
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.registry import DISTILLERS, EVERYTHING, MODELS, SAMPLERS
from distill_at_scale.validation import kind_of


class Setting(BaseModel):
    """One setting."""

    name: str
    type: str
    """Type in words, with its range."""
    default: Any
    required: bool
    meaning: str
    given_by: str
    """Form on the command line."""


class SettingsList(BaseModel):
    """The settings of a model, sampler or distiller; without a name, all names."""

    name: str | None
    kind: str | None
    """Model, sampler or distiller."""
    settings: list[Setting]
    names: dict[str, list[str]]
    """Kind -> names."""


@verb(SettingsConfig, "name")
def list_settings(config: SettingsConfig) -> SettingsList:
    """Lists the settings of a model, sampler or distiller; see :class:`~distill_at_scale.config.SettingsConfig`.

    Raises:
        SettingError: The name is unknown.
    """
    name = config.name
    tables = (MODELS, SAMPLERS, DISTILLERS)
    names = {f"{table.kind}s": list(table) for table in tables}
    if name is None:
        return SettingsList(name=None, kind=None, settings=[], names=names)
    kind = EVERYTHING.find(name).kind
    options = _options(name)
    found = [_setting(key, field, options) for key, field in model_of(name).model_fields.items()]
    return SettingsList(name=name, kind=kind, settings=found, names={})


def _options(owner: str) -> Collection[str] | None:
    """Settings that are options of a verb; None: all are."""
    table = EVERYTHING.find(owner)
    if table is SAMPLERS:
        return None
    distiller = DISTILLERS[owner] if table is DISTILLERS else None
    return () if distiller is None else (distiller.size(), *distiller.options, "seed")


def _setting(name: str, field: FieldInfo, options: Collection[str] | None) -> Setting:
    return Setting(
        name=name,
        type=kind_of(field),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        meaning=" ".join((field.description or "").split()),
        given_by=f"--{name.replace('_', '-')}" if options is None or name in options else f"--set {name}=VALUE",
    )
