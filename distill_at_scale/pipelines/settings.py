"""settings: what a model, sampler or distiller can be told."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill_at_scale.config import SettingsConfig
from distill_at_scale.pipelines.runtime.own_settings import SIZES, model_of
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.registry import DISTILLERS, EVERYTHING, MODELS, SAMPLERS
from distill_at_scale.validation import kind_of


class Setting(BaseModel):
    """One setting."""

    name: str
    type: str
    """in words, with its range"""
    default: Any
    required: bool
    meaning: str
    given_by: str
    """how it is given on the command line"""


class SettingsList(BaseModel):
    """The settings of a model, sampler or distiller; or, with no name asked for, all names."""

    name: str | None
    kind: str | None
    """model, sampler or distiller"""
    settings: list[Setting]
    names: dict[str, list[str]]
    """kind -> names"""


@verb(SettingsConfig, "name")
def list_settings(config: SettingsConfig) -> SettingsList:
    """What a model, sampler or distiller can be told; see :class:`~distill_at_scale.config.SettingsConfig`.

    Raises:
        SettingError: for an unknown name.
    """
    name = config.name
    tables = (MODELS, SAMPLERS, DISTILLERS)
    names = {f"{table.kind}s": list(table) for table in tables}
    if name is None:
        return SettingsList(name=None, kind=None, settings=[], names=names)
    kind = EVERYTHING.find(name).kind
    found = [_setting(name, key, field) for key, field in model_of(name).model_fields.items()]
    return SettingsList(name=name, kind=kind, settings=found, names={})


def _setting(owner: str, name: str, field: FieldInfo) -> Setting:
    option = f"--{name.replace('_', '-')}"
    of_distiller = owner in DISTILLERS and name in (*SIZES, "length", "student", "seed")
    return Setting(
        name=name,
        type=kind_of(field),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        meaning=" ".join((field.description or "").split()),
        given_by=option if owner in SAMPLERS or of_distiller else f"--set {name}=VALUE",
    )
