"""Dataset: the immutable currency of this project, on any storage.

<uri>/manifest.json              written last: a folder without it is no dataset
      items.parquet              item (int32, dense) · item_id · train_count
      users/part-00000.parquet   user (int64, dense) · user_id · train · validation · test (row counts)
      shards/part-00000.parquet  user · item · rating · timestamp · split, sorted by (user, timestamp)
      quarantine/*.parquet       rows that could not be taken, with reason and source
      run.json                   how the run that made it went: wall time, memory, versions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import ragged, recorded, storage
from distill_at_scale.data.columns import SPLITS, Columns
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.manifest import FIX, Manifest, ShardRecord, read_manifest
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DasError, SettingError

SHARD_SCHEMA = pa.schema(
    [
        pa.field(Columns.USER, pa.int64(), nullable=False),
        pa.field(Columns.ITEM, pa.int32(), nullable=False),
        pa.field(Columns.RATING, pa.float32(), nullable=False),
        pa.field(Columns.TIMESTAMP, pa.int64(), nullable=False),
        pa.field(Columns.SPLIT, pa.int8(), nullable=False),
    ]
)
"""A log without ratings has 1 in every row, one without times 0; the manifest says so."""


class Dataset:
    """A numbered, split, sharded log that can be opened anywhere.

    Attributes:
        uri: where it lies.
        manifest: what it is.
    """

    def __init__(self, uri: str, manifest: Manifest) -> None:
        self.uri = uri
        self.manifest = manifest

    @classmethod
    def open(cls, uri: str) -> Dataset:
        """Opens the dataset at ``uri`` (reads the manifest only).

        Raises:
            DasError: when there is no finished dataset.
        """
        uri = storage.normalise(uri)
        return cls(uri, read_manifest(uri))

    def __repr__(self) -> str:
        m = self.manifest
        return f"Dataset({self.uri!r}, users={m.n_users:,}, items={m.n_items:,}, rows={m.n_rows:,})"

    @property
    def n_users(self) -> int:
        """Users, numbered 0 … n_users − 1."""
        return self.manifest.n_users

    @property
    def n_items(self) -> int:
        """Items, numbered 0 … n_items − 1."""
        return self.manifest.n_items

    @property
    def n_rows(self) -> int:
        """Rows of all splits."""
        return self.manifest.n_rows

    @property
    def shards(self) -> list[ShardRecord]:
        """The shards, in the order of their users."""
        return self.manifest.shards

    def table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one shard (Arrow), all columns or those named.

        Raises:
            DamagedFileError: the file is missing, or not as the manifest says.
        """
        return self._read(self.shards[shard].data, self.shards[shard].rows, columns)

    def items(self) -> pl.DataFrame:
        """item (Int32) · item_id · train_count (Int64), ordered by item."""
        return pl.DataFrame(pl.from_arrow(self._read(self.manifest.items, self.n_items)))

    def item_ids(self) -> pl.Series:
        """Own id of each item number (Int64 or String)."""
        return self.items()[Columns.ITEM_ID]

    def users(self, shard: int) -> pl.DataFrame:
        """user (Int64) · user_id · train · validation · test (Int64 row counts) of one shard, ordered by user."""
        return pl.DataFrame(pl.from_arrow(self._read(self.shards[shard].users, self.shards[shard].n_users)))

    def interactions(self, *splits: str, shards: Sequence[int] | None = None) -> Interactions:
        """The rows of the named splits, in memory: 17 bytes a row and 16 a user.

        Args:
            splits: any of ``train``, ``validation``, ``test``; none named means ``train``.
            shards: only these shards (default: all). Every user of a shard is there, also without rows.

        Raises:
            DasError: for an unknown split.
        """
        codes = self._codes(splits or ("train",))
        chosen = range(len(self.shards)) if shards is None else shards
        if not chosen:
            # A worker may be left without a shard; its arrays are empty but of the usual types.
            return self._shard_interactions(0, codes).slice(0, 0)
        return Interactions.concatenate([self._shard_interactions(k, codes) for k in chosen], self.n_items)

    def iter_interactions(self, *splits: str) -> Iterator[Interactions]:
        """As :meth:`interactions`, one shard after another."""
        for shard in range(len(self.shards)):
            yield self.interactions(*splits, shards=[shard])

    def histories(self, split: str, shard: int) -> tuple[Interactions, Interactions]:
        """(input, held out) of one shard's users for judging on ``split``.

        Validation is predicted from the train rows, test from train and validation rows.

        Raises:
            DasError: when ``split`` is neither ``validation`` nor ``test``, or has no rows at all.
        """
        if split not in ("validation", "test"):
            raise SettingError(f"split '{split}' cannot be judged on; choose validation or test.")
        if self.manifest.splits.get(split, 0) == 0:
            raise DasError(f"{storage.redact(self.uri)} has no {split} rows; prepare it with another --split.")
        inputs = ("train",) if split == "validation" else ("train", "validation")
        return self.interactions(*inputs, shards=[shard]), self.interactions(split, shards=[shard])

    def train_counts(self) -> np.ndarray:
        """int64 [n_items], train rows of each item."""
        return self.items()[Columns.TRAIN_COUNT].to_numpy()

    def verify(self) -> None:
        """Compares every file with its checksum, also those that this process has compared before.

        Raises:
            DamagedFileError: naming the first file that is missing or differs.
        """
        for record in (self.manifest.items, *(f for s in self.shards for f in (s.data, s.users))):
            recorded.read_recorded(self.uri, record, FIX, thorough=True)

    def summary(self) -> dict[str, Any]:
        """Counts and lineage as one JSON object."""
        m = self.manifest
        content = m.model_dump(exclude={"shards", "config", "format", "version"})
        return {
            "uri": storage.redact(self.uri),
            "fingerprint": m.fingerprint,
            "n_shards": len(m.shards),
            **content,
        }

    def _read(self, record: FileRecord, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
        return recorded.read_parquet(self.uri, record, FIX, columns, rows)

    @staticmethod
    def _codes(splits: Sequence[str]) -> list[int]:
        unknown = [name for name in splits if name not in SPLITS]
        if unknown:
            raise SettingError(f"unknown split '{unknown[0]}'; the splits are {', '.join(SPLITS)}.")
        return [SPLITS[name] for name in splits]

    def _shard_interactions(self, shard: int, codes: Sequence[int]) -> Interactions:
        record, m = self.shards[shard], self.manifest
        wanted = [Columns.USER, Columns.ITEM, Columns.SPLIT]
        wanted += [Columns.RATING] * m.has_ratings + [Columns.TIMESTAMP] * m.has_timestamps
        table = self.table(shard, wanted)
        keep = np.isin(table[Columns.SPLIT].to_numpy(), codes)

        def column(name: str) -> np.ndarray:
            return table[name].to_numpy()[keep]

        per_user = np.bincount(column(Columns.USER) - record.first_user, minlength=record.n_users)
        return Interactions(
            users=np.arange(record.first_user, record.first_user + record.n_users, dtype=np.int64),
            offsets=ragged.offsets(per_user),
            items=column(Columns.ITEM),
            n_items=self.n_items,
            ratings=column(Columns.RATING) if m.has_ratings else None,
            timestamps=column(Columns.TIMESTAMP) if m.has_timestamps else None,
        )
