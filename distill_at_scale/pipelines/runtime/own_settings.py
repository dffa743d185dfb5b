"""The own settings of models, samplers and distillers: which there are, and whether given ones are right.

All that a `--set` says is checked here before a cluster is started for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill_at_scale.config import ProxyConfig
from distill_at_scale.config.values import Verb
from distill_at_scale.errors import SettingError
from distill_at_scale.registry import DISTILLERS, EVERYTHING, MODELS, SAMPLERS, is_spec
from distill_at_scale.settings import parse
from distill_at_scale.validation import did_you_mean, same_name


class NoSettings(BaseModel):
    """Settings of a method without any."""

    model_config = ConfigDict(extra="forbid")


def model_of(owner: str) -> type[BaseModel]:
    """The settings of a model, sampler or distiller.

    Raises:
        KeyError: for another name.
    """
    table = EVERYTHING.find(owner)
    if table is SAMPLERS:
        return ProxyConfig if SAMPLERS[owner].proxy else NoSettings
    found: type[BaseModel] = table[owner].Config
    return found


def refuse_useless(config: BaseModel, names: Collection[str], reason: str) -> None:
    """Refuses settings of a verb that would be ignored in this run.

    One with its default value is accepted: recorded settings hold all of them.

    Args:
        config: settings of the verb.
        names: settings that the run ignores.
        reason: a clause that says what they are of.

    Raises:
        SettingError: naming the first of them.
    """
    defaults = type(config).model_fields
    given = sorted(name for name in names if getattr(config, name) != defaults[name].default)
    if given:
        raise SettingError(f"--{given[0].replace('_', '-')} {reason}; leave it out.")


def refuse_proxy_settings(config: ProxyConfig, sampler: str, proxy: str | None) -> None:
    """Refuses settings of a proxy for a sampler without one.

    Raises:
        SettingError: naming the first of them.
    """
    if proxy is None:
        names = ProxyConfig.model_fields.keys() - Verb.model_fields.keys()
        refuse_useless(config, names, f"is of the samplers svp_*, which train a proxy, not of {sampler}")


def by_owner(given: Mapping[str, Any], owners: Collection[str], example: str) -> dict[str, dict[str, Any]]:
    """Settings by what they are of, each checked: {"mf.epochs": 5} becomes {"mf": {"epochs": 5}}.

    Args:
        given: as `--set` takes them, where the sizes and seeds are given otherwise.
        owners: models, samplers, distillers.
        example: how one looks, for the message.

    Raises:
        SettingError: one that is of none of ``owners``, that its owner has not, or whose value is wrong.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        # The module of package.module:Class has dots of its own.
        name, dot, setting = key.rpartition(".") if ":" in key else key.partition(".")
        owner = same_name(name, owners) if dot and setting else None
        if owner is None and dot and is_spec(name):
            EVERYTHING.find(name)
            owner = name
        if owner is None:
            near = did_you_mean(name, owners) if dot else ""
            raise SettingError(f"--set {key}: name what it is a setting of, as {example}.{near}")
        found.setdefault(owner, {})[setting] = value
    for owner, own in found.items():
        check(owner, own)
    return found


def check(owner: str, given: Mapping[str, Any]) -> None:
    """Refuses settings of a model or method that are wrong; for methods, also those that their budget and seed say.

    Raises:
        SettingError: naming all that is wrong.
    """
    table = EVERYTHING.find(owner)
    if table is not MODELS:
        for name in ("seed", DISTILLERS[owner].size()) if table is DISTILLERS else ("seed",):
            if name in given:
                by = "the seeds" if name == "seed" else "the budgets"
                raise SettingError(f"{owner}: {name} is given by {by}; leave it out.")
    parse(owner, model_of(owner), given)
