"""What a Dataset and a SyntheticDataset have in common: an address, a manifest, and the item table that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

import polars as pl
import pyarrow as pa

from distill_at_scale.data import recorded
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.recorded import FileRecord


class DatasetManifest(Protocol):
    """Description of a dataset's content."""

    n_users: int
    n_items: int
    items: FileRecord


M = TypeVar("M", bound=DatasetManifest)


class StoredDataset(Generic[M]):
    """A folder on any storage with users, numbered items, and a manifest that records its files.

    Attributes:
        uri: Address of the folder.
        manifest: Description of its content.
    """

    fix: ClassVar[str]
    """Remedy for damage, as the end of a sentence."""

    def __init__(self, uri: str, manifest: M) -> None:
        self.uri, self.manifest = uri, manifest

    @property
    def n_users(self) -> int:
        """Number of users, synthetic users or sequences; users are numbered 0 … n_users − 1."""
        return self.manifest.n_users

    @property
    def n_items(self) -> int:
        """Number of items; items are numbered 0 … n_items − 1, those of a synthetic dataset as in its parent."""
        return self.manifest.n_items

    def items(self) -> pl.DataFrame:
        """Returns the item table, of a synthetic dataset its parent's: item (Int32) · item_id · train_count (Int64),
        ordered by item.

        Raises:
            DamagedFileError: The file is missing or differs from the manifest.
        """
        return pl.DataFrame(pl.from_arrow(self._read(self.manifest.items, self.n_items)))

    def item_ids(self) -> pl.Series:
        """Own id of each item number (Int64 or String)."""
        return self.items()[Columns.ITEM_ID]

    def _read(self, record: FileRecord, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
        return recorded.read_parquet(self.uri, record, self.fix, columns, rows)
