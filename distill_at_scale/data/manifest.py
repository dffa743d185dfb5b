"""What a Dataset's ``manifest.json`` says: the schema of the currency that everything trades in."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.recorded import FileRecord, Inside
from distill_at_scale.errors import DasError

NAME = "manifest.json"
WORK = "_work"
"""Folder of an unfinished writer, inside its output; gone once the manifest is there."""
FIX = "prepare the dataset again"
"""what to do with a dataset that is damaged; the end of a sentence"""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardRecord(_Record):
    """A shard: whole users, their rows sorted by (user, timestamp); of equal times a draw decides."""

    data: FileRecord
    users: FileRecord
    first_user: int = Field(ge=0)
    n_users: int = Field(ge=1)
    rows: int = Field(ge=0)
    splits: dict[str, Annotated[int, Field(ge=0)]]
    """rows of each split"""


class QuarantineRecord(_Record):
    """Rows that could not be taken, kept with their reason and source."""

    rows: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    files: list[Inside] = Field(default_factory=list)


class Parent(_Record):
    """The dataset that a sample was made from."""

    uri: str
    fingerprint: str


class Manifest(_Record):
    """Everything about a Dataset but its rows; deterministic: no times, no machine names."""

    format: Literal["distill_at_scale/dataset"] = "distill_at_scale/dataset"
    version: Literal[1, 2] = 2
    """1 had no checksum of itself, and is read without"""
    n_users: int
    n_items: int
    n_rows: int
    splits: dict[str, int]
    """rows of each split"""
    split_rule: dict[str, Any]
    """name and parameters of the rule that made the split"""
    tied: dict[str, int] = Field(default_factory=dict)
    """held-out rows of each split that a draw chose, since other rows of the user have the same time; empty where the
    split does not go by a user's order in time"""
    has_ratings: bool
    rating_meaning: str | None = None
    """what ratings are where they are weights, as "weight of event: view 0.1, purchase 1"; None: the log's ratings"""
    has_timestamps: bool
    timestamp_unit: Literal["ms"] = "ms"
    """milliseconds since 1970 UTC"""
    id_types: dict[str, Literal["int64", "string"]]
    items: FileRecord
    item_space: str
    """fingerprint of which number is which item; a sample has that of its parent"""
    shards: list[ShardRecord]
    dropped: dict[str, int]
    """rows that each filter took: where, event, duplicates, min_rating, min_item, min_user, short_history, split"""
    quarantine: QuarantineRecord = QuarantineRecord()
    noticed: list[Notice] = Field(default_factory=list)
    """what reading the log skipped, changed or found odd"""
    source: dict[str, Any]
    """inputs (without credentials), rows read, skipped files, how the files were read"""
    config: dict[str, Any]
    """the settings that decide the content"""
    parent: Parent | None = None
    made_with: dict[str, str]
    """versions of this package and of the libraries whose bytes the shards are"""

    @property
    def fingerprint(self) -> str:
        """Hex digest of the content: the same rows under the same numbers give the same one."""
        digest = hashlib.sha256(self.items.sha256.encode())
        for shard in self.shards:
            digest.update(shard.data.sha256.encode() + shard.users.sha256.encode())
        return digest.hexdigest()[:32]

    def contradiction(self) -> str | None:
        """What in the manifest cannot be true beside the rest of it, as a clause; None where nothing is."""
        first, paths = 0, {self.items.path}
        for k, shard in enumerate(self.shards):
            for file in (shard.data, shard.users):
                if file.path in paths:
                    return f"{file.path} is listed twice"
                paths.add(file.path)
            if shard.first_user != first:
                return f"shard {k} begins with user {shard.first_user:,}, but the one before it ends before {first:,}"
            if sum(shard.splits.values()) != shard.rows:
                return f"shard {k} has {shard.rows:,} rows, but its splits have {sum(shard.splits.values()):,}"
            first += shard.n_users
        for name, said, found in (
            ("users", self.n_users, first),
            ("rows", self.n_rows, sum(shard.rows for shard in self.shards)),
            *(
                (f"{split} rows", self.splits.get(split, 0), sum(shard.splits.get(split, 0) for shard in self.shards))
                for split in sorted({*self.splits, *(split for shard in self.shards for split in shard.splits)})
            ),
        ):
            if said != found:
                return f"it says {said:,} {name}, but its shards have {found:,}"
        return None

    def tied_share(self, split: str) -> float | None:
        """Share of a split's rows that a draw chose among a user's rows of the same time; None where none could."""
        return self.tied[split] / self.splits[split] if self.tied and self.splits.get(split) else None

    def write(self, uri: str) -> None:
        """Writes the manifest of the dataset at ``uri``; from here on it is a dataset."""
        recorded.write_json(storage.join(uri, NAME), self.model_dump(mode="json"))


DATASET_FORMAT = "distill_at_scale/dataset"
SYNTHETIC_FORMAT = "distill_at_scale/synthetic"
"""What the manifest of a synthetic dataset names itself."""


def read_manifest(uri: str) -> Manifest:
    """The manifest of the dataset at ``uri``.

    Raises:
        DasError: when there is none, when a writer has not finished there, or when it is damaged.
    """
    place = storage.redact(uri)
    try:
        content = storage.read_bytes(storage.join(uri, NAME))
    except FileNotFoundError:
        if storage.exists(storage.join(uri, WORK)):
            raise DasError(
                f"{place} is no dataset: a run has not finished there; run the same command again to finish it."
            ) from None
        if not storage.exists(uri):
            raise DasError(f"{place} does not exist; `das prepare --output` makes a dataset.") from None
        raise DasError(f"{place} is no dataset: it has no {NAME}; `das prepare` makes one from a log.") from None
    file = storage.join(uri, NAME)
    if recorded.parse_json(content, file, FIX)[0].get("format") == SYNTHETIC_FORMAT:
        raise DasError(
            f"{place} holds synthetic users or sequences, not a log's; `das fit` and `das export` take them, this "
            "does not."
        )
    return recorded.read_manifest(Manifest, content, file, FIX, Manifest.contradiction)
