"""The recommenders, by name; which there are is in `registry`.

A model's module, and torch with most of them, is imported when the model is asked for: most processes of a cluster need
none, and torch takes them longer than their work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.models.base import ModelConfig, Recommender, read_description
from distill_at_scale.registry import MODELS as _MODELS
from distill_at_scale.registry import Registry

MODELS: Registry[type[Recommender]] = _MODELS


def find_model(name: str) -> type[Recommender]:
    """The class of the model ``name``.

    Raises:
        SettingError: for an unknown name, listing the known ones.
    """
    return MODELS.find(name)


def create_model(name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
    """An unfitted model from its name and settings (fields of its ``Config``).

    Raises:
        SettingError: for an unknown name or setting.
    """
    model = find_model(name)
    return model(model.parse_config(settings or {}))


def load_model(uri: str) -> Recommender:
    """The model saved at ``uri``, whichever it is.

    Raises:
        DasError: when there is none, or it is damaged.
    """
    name = str(read_description(uri).get("model"))
    if name not in MODELS:
        raise DamagedFileError(f"{storage.redact(uri)} holds a model '{name}', which this release does not know.")
    return MODELS[name].load(uri)


__all__ = ["MODELS", "ModelConfig", "Recommender", "create_model", "find_model", "load_model"]
