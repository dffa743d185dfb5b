"""Writes a shard's part of the samples for all budgets, in one pass over its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import WEIGHT_FIELD, Dataset
from distill_at_scale.data.preparation import parquet, restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.data.shard_records import ShardRecord
from distill_at_scale.samplers.inclusion import Inclusion, row_weights
from distill_at_scale.samplers.scores import Threshold, read_scores

SCORES = "scores"
COUNTS = "counts"


@dataclass(frozen=True)
class SubsetsRecord(PartRecord):
    """A shard's part of the samples; each field has one entry per budget."""

    shards: tuple[ShardRecord, ...]
    users: tuple[int, ...]
    """Number of users with train rows."""


@dataclass(frozen=True)
class SampledItems:
    """The file ``items.parquet`` of a sample."""

    file: FileRecord
    items: int
    """Number of items with train rows."""


def write_subsets(
    dataset: Dataset,
    shard: int,
    work: str,
    thresholds: Sequence[Threshold],
    outputs: Sequence[str],
    inclusion: Inclusion | None = None,
) -> SubsetsRecord:
    """Writes the part of ``shard`` that each budget keeps: its train rows, all rows of other splits, and all users.

    Args:
        dataset: Dataset to sample from.
        shard: Index of the shard.
        work: Folder with the shard's scores; receives the train rows per item of every output (:func:`counts_uri`).
        thresholds, outputs: One threshold and one output per budget.
        inclusion: Probabilities of the units, whose inverses become weights: of each train row, multiplied by the
            weight that it has in ``dataset``; 1 for all other rows, which are kept in any case.
    """
    table, record = dataset.table(shard), dataset.shards[shard]
    scores = read_scores(restartable.part(storage.join(work, SCORES), shard, ".arrow"))
    users = restartable.to_table(dataset.users(shard))
    # In NumPy, take by position is several times faster than by mask, and than Arrow by either.
    columns = {name: table[name].to_numpy() for name in table.column_names}
    is_train = columns[Columns.SPLIT] == TRAIN
    train = np.flatnonzero(is_train)
    user, item = columns[Columns.USER].take(train) - record.first_user, columns[Columns.ITEM].take(train)
    weighted, n_train = columns.get(Columns.WEIGHT), dataset.manifest.splits["train"]
    written, users_kept = [], []
    for k, (threshold, output) in enumerate(zip(thresholds, outputs)):
        chosen = np.flatnonzero(scores.keeps(threshold))
        keep = ~is_train
        keep[train.take(chosen)] = True
        rows = np.flatnonzero(keep)
        kept = pa.table([column.take(rows) for column in columns.values()], schema=table.schema)
        if inclusion is not None:
            weights = np.ones(len(is_train)) if weighted is None else weighted.astype(np.float64)
            # What keeps every row keeps it with probability 1.
            if threshold.rows < n_train:
                weights[train.take(chosen)] *= row_weights(inclusion, scores, threshold)
            column = pa.array(weights.take(rows).astype(np.float32))
            at = kept.schema.get_field_index(Columns.WEIGHT)
            kept = kept.append_column(WEIGHT_FIELD, column) if at < 0 else kept.set_column(at, WEIGHT_FIELD, column)
        per_user = np.bincount(user.take(chosen), minlength=record.n_users)
        at = users.column_names.index("train")
        counted = users.set_column(at, users.schema.field(at), pa.array(per_user))
        restartable.write_counts(counts_uri(work, k, shard), np.bincount(item.take(chosen), minlength=dataset.n_items))
        written.append(
            ShardRecord(
                data=parquet.write_parquet(output, record.data.path, kept),
                users=parquet.write_parquet(output, record.users.path, counted),
                first_user=record.first_user,
                n_users=record.n_users,
                rows=len(rows),
                splits={**record.splits, "train": len(chosen)},
            )
        )
        users_kept.append(int((per_user > 0).sum()))
    return SubsetsRecord(shards=tuple(written), users=tuple(users_kept))


def counts_uri(work: str, budget: int, shard: int) -> str:
    """Returns the address of the train rows per item that the ``budget``-th output keeps of ``shard``."""
    return restartable.part(storage.join(work, COUNTS, f"budget-{budget:03d}"), shard, ".arrow")


def write_items(dataset: Dataset, counts: Sequence[str], output: str) -> SampledItems:
    """Writes ``items.parquet`` of a sample: the items of ``dataset`` with the sample's train counts."""
    total = np.zeros(dataset.n_items, dtype=np.int64)
    for uri in counts:
        restartable.add_counts(uri, total)
    items = dataset.items().with_columns(pl.Series(Columns.TRAIN_COUNT, total))
    file = parquet.write_parquet(output, dataset.manifest.items.path, restartable.to_table(items))
    return SampledItems(file, int((total > 0).sum()))
