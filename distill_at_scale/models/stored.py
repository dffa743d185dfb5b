"""Saving and loading of models: the arrays of a fitted model, and its description (:mod:`.saved`)."""

from __future__ import annotations

import hashlib
import platform
from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.numpy

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DasError
from distill_at_scale.models.saved import (
    FIX,
    MODEL_FILE,
    WEIGHTS_FILE,
    ModelDescription,
    read_description,
    read_weights,
)
from distill_at_scale.models.selection import Selection
from distill_at_scale.registry import MODELS


class Stored(ABC):
    """A model that can be saved and loaded."""

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    config: Any
    n_items: int | None
    item_space: str | None
    selection: Selection | None

    @abstractmethod
    def __init__(self, config: Any = None) -> None:
        """Creates a model that is not fitted."""

    def save(self, uri: str) -> None:
        """Writes the model to a folder on any storage, replacing an existing model.

        Raises:
            DasError: The model is not fitted, or the storage fails.
        """
        if self.n_items is None:
            raise DasError(f"{self.name} has not been fitted, so it cannot be saved.")
        spec = MODELS.spec_of(type(self))
        weights = {key: np.ascontiguousarray(value) for key, value in self._weights().items()}
        content = safetensors.numpy.save(weights)
        versions = {package: version(package) for package in ("numpy", "scipy", "torch")}
        described = ModelDescription(
            model=self.name,
            plugin=spec,
            config=self.config.model_dump(mode="json"),
            n_items=self.n_items,
            item_space=self.item_space,
            selection=self.selection,
            weights=FileRecord(path=WEIGHTS_FILE, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()),
            versions={"python": platform.python_version(), **versions},
        )
        # The old description is removed first: a kill must not leave it beside new weights.
        storage.remove(storage.join(uri, MODEL_FILE))
        storage.write_bytes(storage.join(uri, WEIGHTS_FILE), content)
        recorded.write_json(storage.join(uri, MODEL_FILE), described.to_json())

    @classmethod
    def load(cls, uri: str) -> Self:
        """Reads a model that :meth:`save` wrote.

        Raises:
            DasError: The model is missing, or of another class.
            DamagedFileError: A file is damaged or altered, or has the format of another release.
        """
        described = read_description(uri)
        place = storage.redact(uri)
        if described.model != cls.name:
            raise DasError(f"{place}: holds a model '{described.model}', not '{cls.name}'.")
        content = read_weights(uri, described)
        with recorded.parsing(storage.join(uri, MODEL_FILE), FIX):
            config = cls.Config(**described.config)
        model = cls(config)
        model.n_items, model.item_space = described.n_items, described.item_space
        model.selection = described.selection
        with recorded.parsing(storage.join(uri, WEIGHTS_FILE), FIX):
            model._set_weights(safetensors.numpy.load(content.to_pybytes()), described.n_items)
        return model

    @abstractmethod
    def _weights(self) -> dict[str, np.ndarray]:
        """Returns the arrays that scoring needs, by name."""

    @abstractmethod
    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        """Restores the arrays of :meth:`_weights`; raises KeyError or ValueError if they do not fit."""
