"""The recommenders, by name, and as classes: ``das.models.Ease(lam=400).fit(frame)``; which there are is in `registry`.

A model's module, and torch with most of them, is imported when the model is asked for: most processes of a cluster need
none, and torch takes them longer than their work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.errors import DamagedFileError, PluginError
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.saved import read_description
from distill_at_scale.registry import ALLOWED, Registry, is_spec
from distill_at_scale.registry import MODELS as _MODELS

MODELS: Registry[type[Recommender]] = _MODELS


def find_model(name: str) -> type[Recommender]:
    """The class of the model ``name``, or of ``package.module:Class``.

    Raises:
        SettingError: for an unknown name, listing the known ones; a class that is not there, or is not a model.
    """
    return MODELS.find(name)


def create_model(name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
    """An unfitted model from its name and settings (fields of its ``Config``).

    Raises:
        SettingError: for an unknown name or setting.
    """
    model = find_model(name)
    return model(model.parse_config(settings or {}))


def load_model(uri: str, allow: Collection[str] = ()) -> Recommender:
    """The model saved at ``uri``, whichever it is.

    Args:
        allow: classes from outside the package that the model may be of, as ``package.module:Class``, or modules or
            packages of such. Their code is imported.

    Raises:
        DasError: when there is none, or it is damaged.
        PluginError: it is of a class from outside the package that nobody vouches for, or that is not there.
    """
    described = read_description(uri)
    spec = plugin_of(described, uri, allow)
    if spec:
        return MODELS.resolve(spec[0]).load(uri)
    name = str(described.get("model"))
    if name not in MODELS or not MODELS.is_built_in(name):
        raise DamagedFileError(f"{storage.redact(uri)} holds a model '{name}', which this release does not know.")
    return MODELS[name].load(uri)


def plugin_of(described: Mapping[str, Any], uri: str, allow: Collection[str] = ()) -> tuple[str, ...]:
    """The class from outside the package that a saved model is of, if it is of one.

    A file that names code cannot vouch for it: importing code runs it. So somebody else must: an entry point of an
    installed package, a verb that this process was told to run with the class, ``allow``, or $DAS_PLUGINS.

    Args:
        described: content of ``model.json``.
        uri: of the model, for messages.
        allow: as :func:`load_model` takes them.

    Returns:
        What other processes, which load the model for this one, are to ``allow``: the class, or nothing.

    Raises:
        PluginError: nobody vouches for it.
    """
    spec = described.get("class")
    if spec is None:
        return ()
    if not is_spec(str(spec)) or not MODELS.trusts(spec, allow):
        raise PluginError(
            f"{storage.redact(uri)} holds a model of the class '{spec}', and loading it runs that code; allow it by "
            f"{ALLOWED}={spec} in the environment or load_model(uri, allow=['{spec}']), or install a package that "
            f"registers it as an entry point of the group {MODELS.group}."
        )
    return (spec,)


__all__ = [
    "MODELS",
    "ModelConfig",
    "Recommender",
    "create_model",
    "find_model",
    "load_model",
    "plugin_of",
]


def __getattr__(name: str) -> Any:
    model = MODELS.attributes().get(name)
    if model is None:
        known = ", ".join(MODELS.attributes())
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'; the models are {known}.")
    return MODELS[model]


def __dir__() -> list[str]:
    return [*__all__, *MODELS.attributes()]
