"""Discrete logs from synthetic data: sets of items from real-valued rows, items from soft tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
import scipy.sparse as sp

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.latent import LatentSequences

How = Literal["top_k", "sample"]


def discrete_users(rows: np.ndarray, mean_count: float, how: How, seed: int) -> Interactions:
    """Converts real-valued rows to sets of items; see :meth:`SyntheticDataset.draw`.

    Args:
        rows: [n_users, n_items].
        mean_count: Mean number of items per user.
        how: ``top_k`` or ``sample``.
        seed: Random seed.
    """
    if ((rows == 0) | (rows == 1)).all():
        return Interactions.from_csr(sp.csr_array(rows))
    weights = rows.clip(0.0, 1.0).astype(np.float64)
    sums = weights.sum(1)
    wanted = np.rint(mean_count * sums / max(sums.mean(), 1e-12)).astype(np.int64)
    counts = np.clip(wanted, 1, np.maximum((weights > 0).sum(1), 1))
    keys = rows.astype(np.float64)
    if how == "sample":
        # Gumbel top-k: the k largest of log w + g are a sample without replacement (Kool et al., ICML 2019).
        begin = hashing.stream("synthetic/drawn users", seed)
        with np.errstate(divide="ignore"):
            keys = np.log(weights) + _gumbel(begin, np.arange(weights.size, dtype=np.uint64).reshape(weights.shape))
    ranked = np.argsort(-keys, axis=1, kind="stable")
    items = [np.sort(ranked[row, :count]) for row, count in enumerate(counts)]
    return Interactions(
        users=np.arange(len(rows), dtype=np.int64),
        offsets=ragged.offsets(counts),
        items=np.concatenate(items).astype(np.int32),
        n_items=rows.shape[1],
    )


def discrete_sequences(latent: LatentSequences, how: How, seed: int) -> Interactions:
    """Returns one item per position, the most likely or a drawn one, with times 0, 1, …; for decoupled sequences, the
    inputs and then the last target. An item may occur more than once in a sequence."""
    found, begin = [], hashing.stream("synthetic/drawn sequences", seed)
    for row in range(len(latent)):
        tokens = latent.distributions(row).double().numpy()
        if how == "sample":
            places = np.arange(tokens.size, dtype=np.uint64).reshape(tokens.shape) + np.uint64(row * tokens.size)
            with np.errstate(divide="ignore"):
                tokens = np.log(tokens) + _gumbel(begin, places)
        found.append(tokens.argmax(axis=1))
    items = np.stack(found)
    n_sequences, length = items.shape
    return Interactions(
        users=np.arange(n_sequences, dtype=np.int64),
        offsets=np.arange(n_sequences + 1, dtype=np.int64) * length,
        items=items.ravel().astype(np.int32),
        n_items=latent.n_items,
        timestamps=np.tile(np.arange(length, dtype=np.int64), n_sequences),
    )


def as_log(users: Interactions, items: pl.DataFrame) -> pl.DataFrame:
    """Returns the columns user_id · item_id (the parent's original ids) and, if there are times, timestamp."""
    columns = [
        pl.Series(Columns.USER_ID, np.repeat(users.users, users.counts)),
        items[Columns.ITEM_ID].gather(users.items),
    ]
    if users.timestamps is not None:
        columns.append(pl.Series(Columns.TIMESTAMP, users.timestamps))
    return pl.DataFrame(columns)


def _gumbel(begin: hashing.Stream, places: np.ndarray) -> np.ndarray:
    """Returns a standard Gumbel variate for each position."""
    gumbel: np.ndarray = -np.log(-np.log(hashing.uniform_open(hashing.combine(begin, places))))
    return gumbel
