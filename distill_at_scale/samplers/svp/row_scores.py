"""Row scores: how hard a proxy model found every train row of a dataset; made once, read for every budget and variant.

<uri>/row_scores.json        written last: which dataset, proxy, objective, epochs, files
      part-00000.parquet     score (float32), a row for each train row of that shard, in the shard's order

They lie beside the samples that are made of them, at `<output>/svp-<proxy>-<objective>-<seed>`, and stay there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import FileRecord
from distill_at_scale.data.preparation import parts, shards
from distill_at_scale.errors import DasError
from distill_at_scale.samplers.svp import Objective, Proxy

NAME = "row_scores.json"


class RowScoresManifest(BaseModel):
    """What the scores of a dataset's train rows are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["distill_at_scale/row_scores"] = "distill_at_scale/row_scores"
    version: Literal[1] = 1
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
    path = parts.part("", shard, ".parquet").lstrip("/")
    table = pa.table({"score": pa.array(scores, pa.float32())})
    return FileRecord.model_validate(shards.write_parquet(uri, path, table))


def write_manifest(uri: str, manifest: RowScoresManifest) -> None:
    """Writes the manifest; from here on the scores are whole."""
    storage.write_bytes(storage.join(uri, NAME), (manifest.model_dump_json(indent=1) + "\n").encode())


def open_scores(uri: str, dataset: Dataset) -> RowScoresManifest:
    """The manifest of the row scores at ``uri``.

    Raises:
        DasError: when there are none, or they are of another dataset.
    """
    place = storage.redact(uri)
    try:
        manifest = RowScoresManifest.model_validate_json(storage.read_bytes(storage.join(uri, NAME)))
    except FileNotFoundError:
        raise DasError(f"{place} holds no row scores: it has no {NAME}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DasError(f"{place}/{NAME} is damaged or of another version: {field}: {first['msg']}.") from None
    if manifest.data != dataset.manifest.fingerprint or len(manifest.files) != len(dataset.shards):
        raise DasError(f"{place} holds row scores of another dataset than {storage.redact(dataset.uri)}.")
    return manifest


def read_part(uri: str, manifest: RowScoresManifest, shard: int, n_rows: int) -> np.ndarray:
    """float32 [n_rows]: the scores of one shard's train rows.

    Raises:
        DasError: when the file is missing or damaged, or has another number of rows.
    """
    file_uri = storage.join(uri, manifest.files[shard].path)
    place = storage.redact(file_uri)
    try:
        with storage.open_input(file_uri) as file:
            scores = pq.ParquetFile(file).read(columns=["score"])["score"].to_numpy()
    except FileNotFoundError:
        raise DasError(f"{place} is missing; score the rows again.") from None
    except pa.ArrowException as error:
        raise DasError(f"{place} cannot be read ({error}); score the rows again.") from None
    if len(scores) != n_rows:
        raise DasError(f"{place} has {len(scores):,} scores for {n_rows:,} train rows; score the rows again.")
    return scores
