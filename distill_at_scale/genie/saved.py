"""The files of a saved Data-Genie: ``genie.json``, its description, and those that it lists."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.genie.features import FEATURE_VERSION

NAME, WEIGHTS, CELLS, FEATURES = "genie.json", "genie.safetensors", "cells.parquet", "features.parquet"
FORMAT = "distill_at_scale/genie"
RETRAIN = "das genie train --sweeps SWEEP… --output GENIE"
FIX = f"train it again: {RETRAIN}"
"""Remedy for damage, as the end of a sentence."""
VERSION = 2


class TargetRecord(BaseModel):
    """The regressor of a target, as ``genie.json`` describes it."""

    model_config = ConfigDict(frozen=True)

    kind: str
    validation: dict[str, dict[str, float]]
    """Kind -> regret and mean squared error on held-out families."""


class GenieDescription(BaseModel):
    """What a Data-Genie is made from: the fields of ``genie.json`` that its reader needs."""

    model_config = ConfigDict(frozen=True)

    features: tuple[str, ...]
    methods: tuple[str, ...]
    targets: dict[str, TargetRecord]
    files: tuple[FileRecord, ...]


def describe(uri: str) -> GenieDescription:
    """Returns the description of a Data-Genie.

    Raises:
        DasError: The file does not exist, or the features are of another version.
        DamagedFileError: The file is damaged.
    """
    place, file = storage.redact(uri), storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError:
        raise DasError(
            f"{place} is not a Data-Genie: it has no {NAME}; `das genie train` makes one from sweeps."
        ) from None
    content, checksum = recorded.parse_json(raw, file, FIX)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise DamagedFileError(f"{storage.redact(file)} is damaged or of another version; {FIX}.")
    if content.get("feature_version") != FEATURE_VERSION:
        raise DasError(
            f"{place} was trained on features of version {content.get('feature_version')}, but this package measures "
            f"version {FEATURE_VERSION}; train it again: {RETRAIN}"
        )
    recorded.require_checksum(content, checksum, file, FIX)
    with recorded.parsing(file, FIX):
        return GenieDescription.model_validate(content)


def read_training(uri: str) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Returns the training cells of a Data-Genie, and the features of their datasets by fingerprint.

    Raises:
        DasError: As for :func:`describe`.
        DamagedFileError: A file is missing or damaged.
    """
    content = describe(uri)
    tables = []
    for file in (CELLS, FEATURES):
        raw = read_file(uri, content, file)
        with recorded.parsing(storage.join(uri, file), FIX):
            tables.append(pl.read_parquet(raw.to_pybytes()))
    cells, features = tables
    return cells, {row.pop("fingerprint"): row for row in features.to_dicts()}


def read_file(uri: str, content: GenieDescription, name: str) -> pa.Buffer:
    """Reads one of the files that ``genie.json`` lists."""
    record = next((one for one in content.files if one.path == name), None)
    if record is None:
        raise DamagedFileError(f"{storage.redact(storage.join(uri, NAME))} does not list {name}; {FIX}.")
    return recorded.read_recorded(uri, record, FIX)
