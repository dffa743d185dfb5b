"""Row scores: how hard a proxy model found every train row of a dataset; computed once for all budgets and variants.

<uri>/row_scores.json        written last: which dataset, proxy, objective, epochs, files
      part-00000.parquet     score (float32), one per train row of that shard, in the shard's order

The folder `<output>/svp-<proxy>-<objective>-<seed>` lies beside the samples made from it and is kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import parquet, restartable
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DasError
from distill_at_scale.samplers.svp import Objective, Proxy

NAME = "row_scores.json"


class RowScoresManifest(BaseModel):
    """Manifest of the scores of a dataset's train rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["distill_at_scale/row_scores"] = "distill_at_scale/row_scores"
    version: Literal[1, 2] = 2
    """Schema version; version 1 has no checksum of its own."""
    data: str
    """Fingerprint of the dataset."""
    proxy: Proxy
    objective: Objective
    epochs: int
    """Number of epochs that the scores are averaged over."""
    seed: int
    files: list[FileRecord]
    """Files, one per shard."""


def home(output: str, proxy: Proxy, objective: Objective, seed: int) -> str:
    """Returns the folder of a proxy's row scores, beside the samples made from them."""
    return storage.join(output, f"svp-{proxy}-{objective}-{seed}")


def write_part(uri: str, shard: int, scores: np.ndarray) -> FileRecord:
    """Writes the scores of one shard's train rows (float32, finite) into the folder ``uri``.

    Raises:
        DasError: A score is not finite because the proxy diverged.
    """
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise DasError(f"{storage.redact(uri)}: the score of train row {row} of shard {shard} is {scores[row]}.")
    path = restartable.part("", shard, ".parquet").lstrip("/")
    table = pa.table({"score": pa.array(scores, pa.float32())})
    return parquet.write_parquet(uri, path, table)


def write_manifest(uri: str, manifest: RowScoresManifest) -> None:
    """Writes the manifest, which completes the scores."""
    recorded.write_json(storage.join(uri, NAME), manifest.model_dump(mode="json"))


def open_scores(uri: str, dataset: Dataset) -> RowScoresManifest:
    """Reads the manifest of the row scores at ``uri``.

    Raises:
        DasError: There are no scores, or they belong to another dataset.
        DamagedFileError: The manifest is damaged.
    """
    folder, file = storage.redact(uri), storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError:
        raise DasError(f"{folder} holds no row scores: it has no {NAME}.") from None
    manifest = recorded.read_manifest(RowScoresManifest, raw, file, _fix(uri))
    if manifest.data != dataset.manifest.fingerprint or len(manifest.files) != len(dataset.shards):
        raise DasError(f"{folder} holds row scores of a dataset other than {storage.redact(dataset.uri)}.")
    return manifest


def read_part(uri: str, manifest: RowScoresManifest, shard: int, n_rows: int) -> np.ndarray:
    """Reads the scores of one shard's train rows, float32 [n_rows].

    Raises:
        DamagedFileError: The file is missing or altered, or has another number of rows.
    """
    scores: np.ndarray = recorded.read_parquet(uri, manifest.files[shard], _fix(uri), ["score"], n_rows)[
        "score"
    ].to_numpy()
    return scores


def _fix(uri: str) -> str:
    return f"remove {storage.redact(uri)} and run the same command again"
