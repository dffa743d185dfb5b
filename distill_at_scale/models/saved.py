"""The files of a saved model: ``model.json``, its description, and ``weights.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError, DasError

FORMAT = 2
FIX = "fit and save the model again"
"""Remedy for a damaged model, as the end of a sentence."""
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


def read_description(uri: str) -> dict[str, Any]:
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
    return described


def read_weights(uri: str, described: Mapping[str, Any]) -> pa.Buffer:
    """Reads a saved model's ``weights.safetensors``, which must match its record in ``model.json``.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    with recorded.parsing(storage.join(uri, MODEL_FILE), FIX):
        record = FileRecord(path=WEIGHTS_FILE, **described["weights"])
    return recorded.read_recorded(uri, record, FIX)


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
