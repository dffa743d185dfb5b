"""The recommenders, by name and as classes: ``das.models.Ease(lam=400).fit(frame)``; `registry` lists them.

A model's module, and torch for most models, is imported only when the model is requested: most processes of a cluster
need none, and importing torch takes longer than their work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.errors import DamagedFileError, PluginError
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.saved import ModelDescription, read_description
from distill_at_scale.registry import ALLOWED, Registry, is_spec
from distill_at_scale.registry import MODELS as _MODELS

MODELS: Registry[type[Recommender]] = _MODELS


def find_model(name: str) -> type[Recommender]:
    """Returns the class of the model ``name``, or of ``package.module:Class``.

    Raises:
        SettingError: The name is unknown (the message lists the known models), or the class is missing or not a model.
    """
    return MODELS.find(name)


def create_model(name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
    """Creates an unfitted model from its name and settings (fields of its ``Config``).

    Raises:
        SettingError: The name or a setting is unknown.
    """
    model = find_model(name)
    return model(model.parse_config(settings or {}))


def load_model(uri: str, allow: Collection[str] = ()) -> Recommender:
    """Loads the model saved at ``uri``, of any class.

    Args:
        uri: Folder of the model.
        allow: Classes from outside the package that may be loaded, as ``package.module:Class``, or their modules or
            packages. Their code is imported.

    Raises:
        DasError: The model is missing or damaged.
        PluginError: The model's class is from outside the package and not allowed, or it is missing.
    """
    described = read_description(uri)
    spec = plugin_of(described, uri, allow)
    if spec:
        return MODELS.resolve(spec[0]).load(uri)
    name = described.model
    if name not in MODELS or not MODELS.is_built_in(name):
        raise DamagedFileError(f"{storage.redact(uri)} holds a model '{name}', which this release does not know.")
    return MODELS[name].load(uri)


def plugin_of(described: ModelDescription, uri: str, allow: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the class of a saved model if it is from outside the package.

    Importing code runs it, so a file that names code cannot authorise that. Authorisation comes from an entry point of
    an installed package, a verb that this process was told to run with the class, ``allow``, or $DAS_PLUGINS.

    Args:
        described: Description of the model.
        uri: Folder of the model, for messages.
        allow: As in :func:`load_model`.

    Returns:
        What other processes that load the model must ``allow``: the class, or nothing.

    Raises:
        PluginError: The class is not authorised.
    """
    spec = described.plugin
    if spec is None:
        return ()
    if not is_spec(spec) or not MODELS.trusts(spec, allow):
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
