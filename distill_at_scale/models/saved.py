"""The files of a saved model: ``model.json``, which describes it, and ``weights.safetensors``."""

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
"""what to do with a model that is damaged; the end of a sentence"""
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


def read_description(uri: str) -> dict[str, Any]:
    """The content of a saved model's ``model.json``.

    Raises:
        DasError: when there is none.
        DamagedFileError: damaged, or of another format.
    """
    file = storage.join(uri, MODEL_FILE)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError as error:
        raise DasError(f"{storage.redact(uri)}: no model here ({MODEL_FILE} not found).") from error
    described, checksum = recorded.parse_json(raw, file, FIX)
    # The first format had no checksum.
    if described.get("format") not in (1, FORMAT):
        raise DamagedFileError(f"{storage.redact(file)} is not of format {FORMAT}; {FIX}.")
    recorded.require_checksum(described, checksum, file, FIX, "format")
    return described


def read_weights(uri: str, described: Mapping[str, Any]) -> pa.Buffer:
    """The content of a saved model's ``weights.safetensors``, which must be what ``model.json`` describes.

    Raises:
        DamagedFileError: missing, truncated or altered.
    """
    with recorded.parsing(storage.join(uri, MODEL_FILE), FIX):
        record = FileRecord(path=WEIGHTS_FILE, **described["weights"])
    return recorded.read_recorded(uri, record, FIX)


def expect_shape(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The weight ``name``, whose shape must be ``shape`` (None: any length).

    Raises:
        KeyError, ValueError: missing; of another shape.
    """
    weight = weights[name]
    if weight.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, weight.shape)):
        raise ValueError(f"weight '{name}' has shape {weight.shape}, expected {shape}")
    return weight
