"""Dataset: the immutable format that every verb reads and writes, on any storage.

<uri>/manifest.json              written last: a folder without it is not a dataset
      items.parquet              item (int32, dense) · item_id · train_count
      users/part-00000.parquet   user (int64, dense) · user_id · train · validation · test (row counts)
      shards/part-00000.parquet  user · item · rating · timestamp · split, sorted by (user, timestamp); in some samples
                                 also weight
      quarantine/*.parquet       rejected rows, with reason and source
      run.json                   record of the run that made it: wall time, memory, versions
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import scipy.sparse as sp

from distill_at_scale.data import ragged, recorded, storage
from distill_at_scale.data.columns import SPLITS, Columns, SplitRule
from distill_at_scale.data.interactions import Interactions, weights_problem
from distill_at_scale.data.manifest import FIX, Manifest, read_manifest
from distill_at_scale.data.shard_records import ShardRecords
from distill_at_scale.data.stored_dataset import StoredDataset
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.facts import facts_html
from distill_at_scale.registry import VERBS

Ids = Literal["original", "number"]
"""What stands for users and items: the ids of the log, or their numbers in the Dataset."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field(Columns.USER, pa.int64(), nullable=False),
        pa.field(Columns.ITEM, pa.int32(), nullable=False),
        pa.field(Columns.RATING, pa.float32(), nullable=False),
        pa.field(Columns.TIMESTAMP, pa.int64(), nullable=False),
        pa.field(Columns.SPLIT, pa.int8(), nullable=False),
    ]
)
"""Columns of a shard. Without ratings in the log every rating is 1, without times every timestamp is 0; the manifest
records which."""
WEIGHT_FIELD = pa.field(Columns.WEIGHT, pa.float32(), nullable=False)
"""One more column of the shards of some samples: the inverse of the probability with which a train row was kept, for
estimates of sums over the dataset sampled from; 1 for the rows of other splits. The manifest says whether it is there;
samplers that keep every unit with the same probability, or none by a known one, write none."""


class Dataset(StoredDataset[Manifest]):
    """A numbered, split and sharded log, readable from any storage.

    Attributes:
        uri: Address of the dataset.
        manifest: Description of its content.
    """

    fix = FIX

    @classmethod
    def open(cls, uri: str) -> Dataset:
        """Opens the dataset at ``uri``; reads only the manifest.

        Raises:
            DasError: ``uri`` holds no finished dataset.
        """
        uri = storage.normalise(uri)
        return cls(uri, read_manifest(uri))

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        time: str | None = None,
        split: SplitRule = "leave_2",
        output: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> Dataset:
        """Makes a Dataset of a frame with a row for each interaction, as `prepare` makes it of a file with these rows.

            ds = das.Dataset.from_frame(df, user="visitor", item="sku", time="ts", output="s3://bucket/data")

        Args:
            frame: a polars or pandas DataFrame, an Arrow table, or any object with the Arrow PyCapsule interface.
            user, item, rating, time: its columns; by default found by well-known names, as user_id or timestamp.
            split: how rows are divided into train, validation and test; "column" reads the column split.
            output: folder or storage URI. Default: a temporary folder of this machine, removed when the process ends;
                a cluster of several machines needs storage that they share.
            settings: the other settings of `prepare`, as min_rating=4, seed or overwrite.

        Raises:
            SettingError: no frame, a column that is missing, a wrong setting.
            DasError: as `prepare`: too many bad rows, no rows left, an output that exists.
        """
        names = {"user": user, "item": item, "rating": rating, "time": time}
        made: Dataset = VERBS["from_frame"](frame, names, split=split, output=output, **settings)
        return made

    @classmethod
    def from_ray(
        cls,
        rows: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        time: str | None = None,
        split: SplitRule = "leave_2",
        output: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> Dataset:
        """Makes a Dataset of a ``ray.data.Dataset`` with a row for each interaction.

        The workers write the rows as Parquet beside ``output`` and `prepare` reads them from there; none pass through
        this process.

        Args:
            rows: Ray Data dataset, whose plan is executed.
            user, item, rating, time, split, output, settings: as :meth:`from_frame` takes them.

        Raises:
            SettingError, DasError: as :meth:`from_frame`.
        """
        names = {"user": user, "item": item, "rating": rating, "time": time}
        made: Dataset = VERBS["from_ray"](rows, names, split=split, output=output, **settings)
        return made

    def __repr__(self) -> str:
        m = self.manifest
        return f"Dataset({self.uri!r}, users={m.n_users:,}, items={m.n_items:,}, rows={m.n_rows:,})"

    def _repr_html_(self) -> str:
        m = self.manifest
        counts = [("users", m.n_users), ("items", m.n_items), *((f"{name} rows", n) for name, n in m.splits.items())]
        facts = [*((name, f"{n:,}") for name, n in counts), ("split", m.split_rule["name"]), ("shards", len(m.shards))]
        return facts_html(f"Dataset {storage.redact(self.uri)}", facts)

    @property
    def n_rows(self) -> int:
        """Number of rows in all splits."""
        return self.manifest.n_rows

    @property
    def shards(self) -> ShardRecords:
        """Shards in user order."""
        return self.manifest.shards

    def table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows of one shard as an Arrow table: all columns, or the named ones.

        Raises:
            DamagedFileError: The file is missing or differs from the manifest.
        """
        return self._read(self.shards[shard].data, self.shards[shard].rows, columns)

    def users(self, shard: int) -> pl.DataFrame:
        """Returns one shard's user table: user (Int64) · user_id · train · validation · test (Int64 row counts), by
        user."""
        return pl.DataFrame(pl.from_arrow(self._read(self.shards[shard].users, self.shards[shard].n_users)))

    def interactions(self, *splits: str, shards: Sequence[int] | None = None, weights: bool = False) -> Interactions:
        """Loads the rows of the named splits into memory: 17 bytes per row and 16 per user.

        Args:
            splits: Any of ``train``, ``validation``, ``test`` (default: ``train``).
            shards: Shards to read (default: all). The result has every user of these shards, also those without rows.
            weights: Whether to load the rows' weights too, 4 bytes per row, if the dataset has them.

        Raises:
            DasError: A split is unknown.
            DamagedFileError: A file is missing or differs from the manifest, or a weight is not a positive number.
        """
        codes = self._codes(splits or ("train",))
        chosen = range(len(self.shards)) if shards is None else shards
        if not chosen:
            # A worker may have no shard; its arrays are empty but have the usual types.
            return self._shard_interactions(0, codes, weights).slice(0, 0)
        return Interactions.concatenate([self._shard_interactions(k, codes, weights) for k in chosen], self.n_items)

    def iter_interactions(self, *splits: str) -> Iterator[Interactions]:
        """Yields :meth:`interactions` of one shard at a time."""
        for shard in range(len(self.shards)):
            yield self.interactions(*splits, shards=[shard])

    def histories(self, split: str, shard: int) -> tuple[Interactions, Interactions]:
        """Returns (input, held-out) rows of one shard's users for evaluation on ``split``.

        Validation rows are predicted from train rows, test rows from train and validation rows.

        Raises:
            DasError: ``split`` is neither ``validation`` nor ``test``, or has no rows.
        """
        if split not in ("validation", "test"):
            raise SettingError(f"split '{split}' cannot be evaluated on; choose validation or test.")
        if self.manifest.splits.get(split, 0) == 0:
            raise DasError(f"{storage.redact(self.uri)} has no {split} rows; prepare it with another --split.")
        inputs = ("train",) if split == "validation" else ("train", "validation")
        return self.interactions(*inputs, shards=[shard]), self.interactions(split, shards=[shard])

    def rows(self, shard: int, *splits: str, ids: Ids = "original") -> pl.DataFrame:
        """The rows of one shard under their ids, users ascending and each user's rows by time.

        Args:
            splits: any of ``train``, ``validation``, ``test``; none named means all.
            ids: ``original``, as in the log, or ``number``.

        Returns:
            user_id · item_id (Int64 or String), or user (Int64) · item (Int32); rating (Float32) and timestamp (Int64,
            milliseconds since 1970 UTC) where the log has them; split (String); weight (Float32) where a sample has it.

        Raises:
            SettingError: an unknown split, or ``ids`` that are neither.
        """
        if ids not in ("original", "number"):
            raise SettingError(f"ids '{ids}' is not one of original, number.")
        m, codes = self.manifest, self._codes(splits or tuple(SPLITS))
        table = pl.DataFrame(pl.from_arrow(self.table(shard))).filter(pl.col(Columns.SPLIT).is_in(codes))
        if ids == "original":
            first = self.shards[shard].first_user
            table = table.with_columns(
                self.users(shard)[Columns.USER_ID].gather(table[Columns.USER] - first),
                self.item_ids().gather(table[Columns.ITEM]),
            )
        names = [Columns.USER_ID, Columns.ITEM_ID] if ids == "original" else [Columns.USER, Columns.ITEM]
        names += [Columns.RATING] * m.has_ratings + [Columns.TIMESTAMP] * m.has_timestamps + [Columns.SPLIT]
        names += [Columns.WEIGHT] * m.has_weights
        by_code = {code: name for name, code in SPLITS.items()}
        return table.with_columns(pl.col(Columns.SPLIT).replace_strict(by_code, return_dtype=pl.String)).select(names)

    def to_frame(self, *splits: str, ids: Ids = "original") -> pl.DataFrame:
        """The rows in memory, as :meth:`rows` gives them, of all shards.

        ds.to_frame("train").to_pandas()
        """
        return pl.concat([self.rows(shard, *splits, ids=ids) for shard in range(len(self.shards))])

    def to_csr(self, *splits: str, values: str = "binary") -> sp.csr_array:
        """A sparse matrix [users, items], float32, of the named splits (default: train).

        Args:
            splits: any of ``train``, ``validation``, ``test``.
            values: ``"binary"`` (1 at each interaction) or ``"rating"``.
        """
        return self.interactions(*splits).to_csr(values)

    def to_ray(self, *splits: str, ids: Ids = "original") -> Any:
        """The rows as a ``ray.data.Dataset``, read shard by shard by the workers; columns as :meth:`rows` has them."""
        return VERBS["to_ray"](self, *splits, ids=ids)

    def train_counts(self) -> np.ndarray:
        """Returns the number of train rows of each item, int64 [n_items]."""
        return self.items()[Columns.TRAIN_COUNT].to_numpy()

    def verify(self) -> None:
        """Compares every file with its checksum, including files that this process has verified before.

        Raises:
            DamagedFileError: A file is missing or differs; the message names the first one.
        """
        for record in self.manifest.files():
            recorded.read_recorded(self.uri, record, FIX, thorough=True)

    def summary(self) -> dict[str, Any]:
        """Returns counts and lineage as one JSON object."""
        m = self.manifest
        content = m.model_dump(exclude={"shards", "config", "format", "version"})
        return {
            "uri": storage.redact(self.uri),
            "fingerprint": m.fingerprint,
            "n_shards": len(m.shards),
            **content,
        }

    @staticmethod
    def _codes(splits: Sequence[str]) -> list[int]:
        unknown = [name for name in splits if name not in SPLITS]
        if unknown:
            raise SettingError(f"unknown split '{unknown[0]}'; the splits are {', '.join(SPLITS)}.")
        return [SPLITS[name] for name in splits]

    def weights(self, shard: int) -> np.ndarray:
        """Returns the weights of one shard's rows, float32 [rows] (see :data:`WEIGHT_FIELD`); ones if it has none.

        Raises:
            DamagedFileError: The file is missing or differs from the manifest, or a weight is not a positive number.
        """
        record = self.shards[shard]
        if not self.manifest.has_weights:
            return np.ones(record.rows, dtype=np.float32)
        table = self.table(shard, [Columns.WEIGHT])
        with recorded.parsing(storage.join(self.uri, record.data.path), FIX):
            if table.schema.names != [Columns.WEIGHT] or table.schema.types != [WEIGHT_FIELD.type]:
                raise ValueError(f"no column {Columns.WEIGHT} of type {WEIGHT_FIELD.type}")
            weights = table[Columns.WEIGHT].to_numpy()
            if problem := weights_problem(weights):
                raise ValueError(problem)
        return weights

    def _shard_interactions(self, shard: int, codes: Sequence[int], weights: bool) -> Interactions:
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
            weights=self.weights(shard)[keep] if weights and m.has_weights else None,
        )
