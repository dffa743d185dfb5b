"""Warm-up of a process: a tiny fit of a model, so that the next fit's cost is its own.

The first fit in a process also imports libraries, loads kernels and, on a GPU, creates a context. That takes about 2.5
CPU-seconds, more than many fits. Costs that are compared are measured after a warm-up.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.synthetic_rows import SyntheticRows

_USERS, _ITEMS, _ROWS = 24, 32, 8
_warm: set[str] = set()
"""Keys of the models and settings that this process has been warmed up for."""


def warm_up(name: str, settings: Mapping[str, Any] | None = None, *, synthetic: bool = False) -> None:
    """Fits a model on a log of a few rows, once per process for the same model and settings.

    Args:
        name: Name of the model.
        settings: Settings of the fits to come; one trained by gradients or by passes runs only one epoch.
        synthetic: Whether the model will be fitted on rows of synthetic users, if it can be.
    """
    settings = dict(settings or {})
    key = json.dumps([name, synthetic, settings], sort_keys=True, default=str)
    if key in _warm:
        return
    _warm.add(key)
    # If these settings are invalid, the fit itself reports it better.
    with contextlib.suppress(Exception):
        model = find_model(name)
        _read_a_table()
        less = {"epochs": 1} if model.by_gradients or model.by_passes else {}
        if synthetic and model.learns_from_rows:
            chosen = {"lam": 1.0} if "lam" in model.Config.model_fields else {}
            create_model(name, {**chosen, **settings, **less}).fit_rows(_synthetic_rows())
        else:
            train, validation = _log()
            create_model(name, {**settings, **less}).fit(train, validation)


def _log() -> tuple[Interactions, Interactions]:
    """Makes train and validation rows of a few users."""
    rng = np.random.default_rng(hashing.stream("warming/log"))
    items = np.stack([rng.permutation(_ITEMS)[: _ROWS + 1] for _ in range(_USERS)]).astype(np.int32)

    def rows(columns: np.ndarray) -> Interactions:
        width = columns.shape[1]
        return Interactions(
            users=np.arange(_USERS, dtype=np.int64),
            offsets=np.arange(_USERS + 1, dtype=np.int64) * width,
            items=columns.reshape(-1),
            n_items=_ITEMS,
            ratings=rng.integers(1, 6, columns.size).astype(np.float32),
            timestamps=np.arange(columns.size, dtype=np.int64),
        )

    return rows(items[:, :_ROWS]), rows(items[:, _ROWS:])


def _synthetic_rows() -> SyntheticRows:
    values = np.random.default_rng(hashing.stream("warming/synthetic rows")).random((_USERS, _ITEMS)).astype(np.float32)
    return SyntheticRows(values, _USERS, _USERS * _ROWS)


def _read_a_table() -> None:
    """Reads a Parquet file, as every fit of a dataset does."""
    content = io.BytesIO()
    pq.write_table(pa.table({"item": np.arange(_ITEMS, dtype=np.int32)}), content, compression="zstd")
    pq.ParquetFile(content).read()
