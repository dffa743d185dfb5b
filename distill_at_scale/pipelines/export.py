"""export: synthetic users or sequences as a plain log of interactions, for trainers that know nothing of this
project."""

from __future__ import annotations

import io
from typing import Any

from pydantic import BaseModel

from distill_at_scale.config import ExportConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.distillation.plain import as_log
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.settings import settle

_RECBOLE = {Columns.USER_ID: "token", Columns.ITEM_ID: "token", Columns.TIMESTAMP: "float"}


class ExportResult(BaseModel):
    """A log and how large it is."""

    uri: str
    """of the file"""
    rows: int
    users: int
    items: int
    bytes: int


def export(config: ExportConfig | None = None, /, **settings: Any) -> ExportResult:
    """Draws plain users and writes them; see :class:`~distill_at_scale.config.ExportConfig` for the settings.

    Items have the ids of the log that was distilled, users are numbered from 0, and so are the times of sequences;
    ``das prepare`` reads the file too.

    Raises:
        DasError: no synthetic dataset, a file of it that is missing or altered.
    """
    config = settle(ExportConfig, config, settings)
    dataset = SyntheticDataset.open(config.data)
    users = dataset.draw(config.how, config.seed)
    log, buffer = as_log(users, dataset.items()), io.BytesIO()
    if config.format == "parquet":
        name = "interactions.parquet"
        log.write_parquet(buffer)
    else:
        name = "interactions.inter"
        typed = log.rename({key: f"{key}:{_RECBOLE[key]}" for key in log.columns})
        typed.write_csv(buffer, separator="\t", quote_style="never")
    uri = storage.join(storage.normalise(config.output), name)
    storage.write_bytes(uri, buffer.getvalue())
    return ExportResult(
        uri=uri,
        rows=users.n_rows,
        users=len(users),
        items=int((users.item_counts() > 0).sum()),
        bytes=buffer.tell(),
    )
