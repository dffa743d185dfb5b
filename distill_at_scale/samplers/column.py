"""column=NAME: any score from outside is a sampler, such as a quality model's, an LLM's rating or a fraud score.

Larger scores are kept first, and a draw decides between equal ones. The scores lie in Parquet or CSV files with the
columns ``user_id``, ``item_id`` and NAME: one number for each train row. Without ``item_id`` they are of users, who are
kept with all their rows. ``rating`` and ``timestamp`` may also be the dataset's own.
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.columns import TRAIN, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.row_values import RowValues, ValueFiles, ValueSource, read_values
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, descending_keys
from distill_at_scale.samplers.train_rows import TrainRows

PREFIX = "column="
OWN = (Columns.RATING, Columns.TIMESTAMP)
"""Columns of a dataset that are scores."""


def column_sampler(name: str) -> Sampler:
    """Returns the sampler ``column=NAME``.

    Raises:
        SettingError: NAME is empty, or an id.
    """
    column = name.strip()[len(PREFIX) :].strip()
    if not column or column in (Columns.USER_ID, Columns.ITEM_ID):
        raise SettingError(f"--sampler {name}: name a column of scores, as column=quality.")
    return Sampler(f"{PREFIX}{column}", _score, column=column)


def _score(rows: TrainRows, seed: int, of: RowValues) -> Scores:
    begin = hashing.stream("column/ties", seed)
    if of.of_users:
        return Scores(descending_keys(of.values), hashing.combine(begin, rows.user_hash), rows.counts)
    return Scores(descending_keys(of.values), rows.draw(begin))


def find_column(dataset: Dataset, column: str, scores: str | None) -> ValueFiles | None:
    """Looks for a column, before any row is scored.

    Returns:
        The files that have it; None if it is the dataset's own.

    Raises:
        SettingError: The column or the file is missing.
    """
    if scores is not None:
        return ValueFiles.open(scores, column)
    manifest = dataset.manifest
    own = [name for name, there in zip(OWN, (manifest.has_ratings, manifest.has_timestamps)) if there]
    if column not in own:
        has = f"only {' and '.join(own)}" if own else "no scores"
        raise SettingError(
            f"{storage.redact(dataset.uri)} has {has}, no column '{column}'; name the file or folder that has it by "
            "--scores URI."
        )
    return None


def read_column(dataset: Dataset, shard: int, rows: TrainRows, column: str, scores: ValueSource | None) -> RowValues:
    """Reads the scores of a shard's train rows.

    Args:
        rows: Train rows of the shard.
        column: Name of the column.
        scores: Where the scores lie; None for a column of the dataset.

    Raises:
        DasError: A score is missing, not a number, or given twice; the message names the first user and item.
    """
    if scores is None:
        table = dataset.table(shard, [Columns.SPLIT, column])
        train = np.flatnonzero(table[Columns.SPLIT].to_numpy() == TRAIN)
        values = table[column].to_numpy().take(train).astype(np.float64)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise DasError(
                f"{storage.redact(dataset.uri)}: {bad:,} train rows of shard {shard} have no number in column "
                f"'{column}'; prepare the log without them."
            )
        return RowValues(values, False)
    return read_values(dataset, shard, rows.owner, rows.items, scores, "train rows")
