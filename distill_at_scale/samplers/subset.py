"""A shard's share of samples: one pass over its rows writes it for every budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import parts, shards
from distill_at_scale.samplers.scores import Threshold, read_scores

SCORES = "scores"
COUNTS = "counts"


def write_subsets(
    dataset: Dataset, shard: int, work: str, thresholds: Sequence[Threshold], outputs: Sequence[str]
) -> dict[str, Any]:
    """Writes the part of ``shard`` that each budget keeps: its train rows, all others, and all users.

    Args:
        dataset: sampled from.
        work: holds the shard's scores; gets the train rows by item of every output (:func:`counts_uri`).
        thresholds, outputs: one each a budget, the largest first: each keeps a part of what the one before it does.

    Returns:
        shards: a ShardRecord as a dict for each output; users: how many have train rows in each.
    """
    table, record = dataset.table(shard), dataset.shards[shard]
    scores = read_scores(parts.part(storage.join(work, SCORES), shard, ".arrow"))
    users = parts.to_table(dataset.users(shard))
    is_train = table[Columns.SPLIT].to_numpy() == TRAIN
    # All budgets keep the same other rows, so that counting everything and taking these off counts the train rows.
    others = _counts(table.filter(pa.array(~is_train)), record.first_user, record.n_users, dataset.n_items)
    written, users_kept = [], []
    before = np.ones(int(is_train.sum()), dtype=bool)
    for k, (threshold, output) in enumerate(zip(thresholds, outputs)):
        chosen = scores.keeps(threshold)
        keep = ~is_train
        keep[is_train] = chosen[before]
        # From here on only what is kept is looked at: the next budget is a part of it.
        table, is_train, before = table.filter(pa.array(keep)), is_train[keep], chosen
        counts = _counts(table, record.first_user, record.n_users, dataset.n_items)
        per_user, per_item = (all_ - other for all_, other in zip(counts, others))
        column = users.column_names.index("train")
        counted = users.set_column(column, users.schema.field(column), pa.array(per_user))
        parts.write_counts(counts_uri(work, k, shard), per_item)
        n_kept = int(chosen.sum())
        written.append(
            {
                "data": shards.write_parquet(output, record.data.path, table),
                "users": shards.write_parquet(output, record.users.path, counted),
                "first_user": record.first_user,
                "n_users": record.n_users,
                "rows": record.rows - record.splits["train"] + n_kept,
                "splits": {**record.splits, "train": n_kept},
            }
        )
        users_kept.append(int((per_user > 0).sum()))
    return {"shards": written, "users": users_kept}


def _counts(table: pa.Table, first_user: int, n_users: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [users] and [items]: the rows of each."""
    per_user = np.bincount(table[Columns.USER].to_numpy() - first_user, minlength=n_users)
    return per_user, np.bincount(table[Columns.ITEM].to_numpy(), minlength=n_items)


def counts_uri(work: str, budget: int, shard: int) -> str:
    """Where the train rows by item lie that the ``budget``-th output keeps of ``shard``."""
    return parts.part(storage.join(work, COUNTS, f"budget-{budget:03d}"), shard, ".arrow")


def write_items(dataset: Dataset, counts: Sequence[str], output: str) -> dict[str, Any]:
    """Writes ``items.parquet`` of a sample: the items of ``dataset``, counted anew.

    Returns:
        file: its FileRecord as a dict; items: how many have train rows.
    """
    total = np.zeros(dataset.n_items, dtype=np.int64)
    for uri in counts:
        parts.add_counts(uri, total)
    items = dataset.items().with_columns(pl.Series(Columns.TRAIN_COUNT, total))
    return {
        "file": shards.write_parquet(output, dataset.manifest.items.path, parts.to_table(items)),
        "items": int((total > 0).sum()),
    }
