"""Numbers for rows, dealt by user: one pass over the files, after which a shard reads only what is its own.

The files may be in any order. Where every shard read all of them, that would be shards times files; dealt as `prepare`
deals a log's rows, by the same hash of the user, each file is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.dealt import DealtRows, part_files, source_files
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.row_values.files import ValueFiles, with_numbers

FOLDER = "values"


@dataclass(frozen=True)
class DealtValues:
    """Numbers of rows or users, and how they get from the parts of their files to the shards of a dataset.

    Attributes:
        files: Files of the numbers.
        dealt: Rows by range of the users' hashes.
        id_types: Types of the dataset's ids.
    """

    files: ValueFiles
    dealt: DealtRows
    id_types: dict[str, str]

    @classmethod
    def plan(cls, files: ValueFiles, dataset: Dataset, work: str) -> DealtValues:
        """Plans the exchange.

        Args:
            files: Files of the numbers, of at least one part.
            dataset: Dataset whose rows they are of.
            work: Folder of unfinished work.
        """
        ranges = len(dataset.shards)
        exchange = Exchange.plan(len(files.pieces), ranges)
        return cls(files, DealtRows(work, FOLDER, exchange, ranges), dict(dataset.manifest.id_types))

    @property
    def tasks(self) -> int:
        """Number of calls of :meth:`deal` that deal all rows."""
        return len(self.dealt.exchange.groups) or len(self.files.pieces)

    def deal(self, index: int, numbers: pl.DataFrame | None) -> PartRecord:
        """Deals a part of the files, or a group of parts if there are many.

        Args:
            index: Number of the part or group.
            numbers: item_id · item of every item; None if the numbers are of users.
        """
        if self.dealt.exchange.merges:
            return self.dealt.merge(index, lambda source: self._read(source, numbers), lambda rows: rows)
        folder, exchange = storage.join(self.dealt.work, FOLDER), self.dealt.exchange

        def build() -> PartRecord:
            with part_files(source_files(folder, index, exchange), exchange) as write:
                for rows in self._read(index, numbers):
                    write(rows)
            return PartRecord()

        return restartable.once(restartable.part(folder, index, ".json"), PartRecord, build)

    def _read(self, piece: int, numbers: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
        for frame in self.files.read(piece, self.id_types):
            rows = with_numbers(frame, numbers)
            if len(rows):
                yield rows

    def rows_of(self, dataset: Dataset, users: pl.Series) -> Iterator[pl.DataFrame]:
        """Reads the numbers of some users, and of those whose hashes are in the same ranges.

        Yields:
            As :meth:`ValueFiles.rows_of`.

        Raises:
            DamagedFileError: A file is missing or altered; the next run makes it again.
        """
        for part in np.unique(hashing.share(hashing.hash_ids(users), self.dealt.n_buckets)).tolist():
            frame = self.dealt.read(part)
            if len(frame):
                yield frame
