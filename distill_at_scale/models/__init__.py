"""The recommenders, by name. A model's module, and torch with most of them, is imported when the model is asked for:
most processes of a cluster need none, and torch takes them longer than their work."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from distill_at_scale.errors import DasError
from distill_at_scale.models.base import ModelConfig, Recommender, read_description

# Each lies in the module of its name.
_CLOSED_FORM = {"popularity": "Popularity", "ease": "Ease", "svd_ae": "SvdAE", "infinite_ae": "InfiniteAE"}
_TRAINED = {
    "bias": "Bias",
    "mf": "MF",
    "neumf": "NeuMF",
    "mvae": "MVAE",
    "svae": "SVAE",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "lightgcn": "LightGCN",
}


class _Models(Mapping[str, type[Recommender]]):
    def __init__(self, classes: Mapping[str, str]) -> None:
        self._classes = classes

    def __getitem__(self, name: str) -> type[Recommender]:
        found: type[Recommender] = getattr(importlib.import_module(f"{__name__}.{name}"), self._classes[name])
        return found

    # Mapping's own would import a model to see whether it is there.
    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


MODELS: Mapping[str, type[Recommender]] = _Models({**_CLOSED_FORM, **_TRAINED})
"""name -> class"""


def find_model(name: str) -> type[Recommender]:
    """The class of the model ``name``.

    Raises:
        DasError: for an unknown name, listing the known ones.
    """
    if name not in MODELS:
        raise DasError(f"There is no model '{name}'; the models are {', '.join(MODELS)}.")
    return MODELS[name]


def create_model(name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
    """An unfitted model from its name and settings (fields of its ``Config``).

    Raises:
        DasError: for an unknown name or setting.
    """
    model = find_model(name)
    return model(model.parse_config(settings or {}))


def load_model(uri: str) -> Recommender:
    """The model saved at ``uri``, whichever it is.

    Raises:
        DasError: when there is none, or it is damaged.
    """
    return find_model(str(read_description(uri).get("model"))).load(uri)


__all__ = ["MODELS", "ModelConfig", "Recommender", "create_model", "find_model", "load_model"]
