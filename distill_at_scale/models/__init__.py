"""The recommenders, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.errors import DasError
from distill_at_scale.models.base import ModelConfig, Recommender, read_description
from distill_at_scale.models.bias import Bias
from distill_at_scale.models.ease import Ease
from distill_at_scale.models.gru4rec import GRU4Rec
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.lightgcn import LightGCN
from distill_at_scale.models.mf import MF
from distill_at_scale.models.mvae import MVAE
from distill_at_scale.models.neumf import NeuMF
from distill_at_scale.models.popularity import Popularity
from distill_at_scale.models.sasrec import SASRec
from distill_at_scale.models.svae import SVAE
from distill_at_scale.models.svd_ae import SvdAE

_CLOSED_FORM: tuple[type[Recommender], ...] = (Popularity, Ease, SvdAE, InfiniteAE)
_TRAINED: tuple[type[Recommender], ...] = (Bias, MF, NeuMF, MVAE, SVAE, SASRec, GRU4Rec, LightGCN)

MODELS: dict[str, type[Recommender]] = {model.name: model for model in (*_CLOSED_FORM, *_TRAINED)}
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
