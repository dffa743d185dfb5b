"""The files of a saved model: ``model.json``, its description, and ``weights.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.models.selection import Selection

FORMAT = 2
FIX = "fit and save the model again"
"""Remedy for a damaged model, as the end of a sentence."""
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Content of ``model.json``."""

    model: str
    """Name of the model."""
    plugin: str | None
    """Class ``package.module:Class`` of a model from outside the package; stored as ``class``."""
    config: Mapping[str, Any]
    """Settings, as the model's ``Config`` takes them."""
    n_items: int
    item_space: str | None
    """Fingerprint of the numbering of the items; None if the rows had none."""
    selection: Selection | None
    """How a hyper-parameter was selected on validation rows."""
    weights: FileRecord
    """Record of ``weights.safetensors``."""
    versions: Mapping[str, str]
    """Versions of Python and of the packages that fitted it."""

    def to_json(self) -> dict[str, Any]:
        """Returns the description as it is stored."""
        return {
            "format": FORMAT,
            "model": self.model,
            **({} if self.plugin is None else {"class": self.plugin}),
            "config": dict(self.config),
            "n_items": self.n_items,
            "item_space": self.item_space,
            "selection": None if self.selection is None else self.selection.model_dump(mode="json"),
            "weights": {"bytes": self.weights.bytes, "sha256": self.weights.sha256},
            "versions": dict(self.versions),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ModelDescription:
        """Returns the description that :meth:`to_json` stored.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or of another type.
        """
        plugin, selection = content.get("class"), content["selection"]
        return ModelDescription(
            model=str(content["model"]),
            plugin=None if plugin is None else str(plugin),
            config=content["config"],
            n_items=int(content["n_items"]),
            item_space=content["item_space"],
            selection=None if selection is None else Selection.model_validate(selection),
            weights=FileRecord(path=WEIGHTS_FILE, **content["weights"]),
            versions=content.get("versions", {}),
        )


def read_description(uri: str) -> ModelDescription:
    """Reads a saved model's ``model.json``.

    Raises:
        DasError: The model is missing.
        DamagedFileError: The file is damaged, or of another format.
    """
    file = storage.join(uri, MODEL_FILE)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError as error:
        raise DasError(f"{storage.redact(uri)}: no model here ({MODEL_FILE} not found).") from error
    described, checksum = recorded.parse_json(raw, file, FIX)
    # Format 1 has no checksum.
    if described.get("format") not in (1, FORMAT):
        raise DamagedFileError(f"{storage.redact(file)} is not of format {FORMAT}; {FIX}.")
    recorded.require_checksum(described, checksum, file, FIX, "format")
    with recorded.parsing(file, FIX):
        return ModelDescription.from_json(described)


def read_weights(uri: str, described: ModelDescription) -> pa.Buffer:
    """Reads a saved model's ``weights.safetensors``, which must match its record in ``model.json``.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    return recorded.read_recorded(uri, described.weights, FIX)


def expect_shape(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Returns the weight ``name`` after checking its shape (None: any length).

    Raises:
        KeyError: The weight is missing.
        ValueError: The weight has another shape.
    """
    weight = weights[name]
    if weight.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, weight.shape)):
        raise ValueError(f"weight '{name}' has shape {weight.shape}, expected {shape}")
    return weight
