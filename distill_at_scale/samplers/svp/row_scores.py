"""Row scores: how hard a proxy model found every train row of a dataset; made once, read for every budget and variant.

<uri>/row_scores.json        written last: which dataset, proxy, objective, epochs, files
      part-00000.parquet     score (float32), a row for each train row of that shard, in the shard's order

They lie beside the samples that are made of them, at `<output>/svp-<proxy>-<objective>-<seed>`, and stay there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable, shards
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DasError
from distill_at_scale.samplers.svp import Objective, Proxy

NAME = "row_scores.json"


class RowScoresManifest(BaseModel):
    """What the scores of a dataset's train rows are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["distill_at_scale/row_scores"] = "distill_at_scale/row_scores"
    version: Literal[1, 2] = 2
    """1 had no checksum of itself, and is read without"""
    data: str
    """fingerprint of the dataset"""
    proxy: Proxy
    objective: Objective
    epochs: int
    """that the scores are the mean over"""
    seed: int
    files: list[FileRecord]
    """one a shard"""


def home(output: str, proxy: Proxy, objective: Objective, seed: int) -> str:
    """Where the row scores of a proxy lie beside the samples made of them."""
    return storage.join(output, f"svp-{proxy}-{objective}-{seed}")


def write_part(uri: str, shard: int, scores: np.ndarray) -> FileRecord:
    """Writes the scores of one shard's train rows (float32, finite) into the folder ``uri``.

    Raises:
        DasError: for a score that is not finite: the proxy has diverged.
    """
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise DasError(f"{storage.redact(uri)}: the score of train row {row} of shard {shard} is {scores[row]}.")
    path = restartable.part("", shard, ".parquet").lstrip("/")
    table = pa.table({"score": pa.array(scores, pa.float32())})
    return FileRecord.model_validate(shards.write_parquet(uri, path, table))


def write_manifest(uri: str, manifest: RowScoresManifest) -> None:
    """Writes the manifest; from here on the scores are whole."""
    recorded.write_json(storage.join(uri, NAME), manifest.model_dump(mode="json"))


def open_scores(uri: str, dataset: Dataset) -> RowScoresManifest:
    """The manifest of the row scores at ``uri``.

    Raises:
        DasError: when there are none, or they are of another dataset.
        DamagedFileError: when the manifest is.
    """
    place, file = storage.redact(uri), storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError:
        raise DasError(f"{place} holds no row scores: it has no {NAME}.") from None
    manifest = recorded.read_manifest(RowScoresManifest, raw, file, _fix(uri))
    if manifest.data != dataset.manifest.fingerprint or len(manifest.files) != len(dataset.shards):
        raise DasError(f"{place} holds row scores of another dataset than {storage.redact(dataset.uri)}.")
    return manifest


def read_part(uri: str, manifest: RowScoresManifest, shard: int, n_rows: int) -> np.ndarray:
    """float32 [n_rows]: the scores of one shard's train rows.

    Raises:
        DamagedFileError: when the file is missing or altered, or has another number of rows.
    """
    scores: np.ndarray = recorded.read_parquet(uri, manifest.files[shard], _fix(uri), ["score"], n_rows)[
        "score"
    ].to_numpy()
    return scores


def _fix(uri: str) -> str:
    return f"remove {storage.redact(uri)} and run the same command again"
