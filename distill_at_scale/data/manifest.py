"""Schema of a Dataset's ``manifest.json``.

The records of at most 1,024 shards are in the JSON, where everybody can read them: half a megabyte that takes 20 ms to
parse. Those of more shards are in ``shards.parquet`` beside it, and the manifest has that file's record in their place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.recorded import FileRecord, Inside
from distill_at_scale.data.shard_records import ShardRecords
from distill_at_scale.errors import DasError, StorageError

NAME = "manifest.json"
WORK = "_work"
"""Folder of an unfinished writer inside its output; removed once the manifest is written."""
FIX = "prepare the dataset again"
"""Remedy for a damaged dataset, as the end of a sentence."""
MOST_INLINE = 1024
"""Number of shards whose records the JSON of a manifest holds at most."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuarantineRecord(_Record):
    """Rejected rows, stored with their reason and source."""

    rows: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    files: list[Inside] = Field(default_factory=list)


class Parent(_Record):
    """The dataset that a sample was made from."""

    uri: str
    fingerprint: str


class Manifest(_Record):
    """Description of a Dataset. It is deterministic: it holds no run times and no machine names."""

    format: Literal["distill_at_scale/dataset"] = "distill_at_scale/dataset"
    version: Literal[1, 2, 3] = 2
    """Schema version; version 1 has no checksum of its own, version 3 has the records of its shards in a file."""
    n_users: int
    n_items: int
    n_rows: int
    splits: dict[str, int]
    """Number of rows of each split."""
    split_rule: dict[str, Any]
    """Name and parameters of the split rule."""
    tied: dict[str, int] = Field(default_factory=dict)
    """Number of held-out rows of each split that a draw chose among a user's rows with the same time; empty if the
    split does not follow the order of time."""
    has_ratings: bool
    rating_meaning: str | None = None
    """Meaning of ratings that are weights, such as "weight of event: view 0.1, purchase 1"; None: the log's ratings."""
    has_timestamps: bool
    timestamp_unit: Literal["ms"] = "ms"
    """Unit of timestamps: milliseconds since 1970 UTC."""
    weight_meaning: str | None = None
    """Meaning of the shards' column ``weight``, which the samples of some samplers have; None: they have none."""
    id_types: dict[str, Literal["int64", "string"]]
    items: FileRecord
    item_space: str
    """Fingerprint of the item numbering; a sample has that of its parent."""
    shards: ShardRecords
    dropped: dict[str, int]
    """Rows that each filter removed: where, event, duplicates, min_rating, min_item, min_user, short_history, split."""
    quarantine: QuarantineRecord = QuarantineRecord()
    noticed: list[Notice] = Field(default_factory=list)
    """Notices: what reading skipped, changed or found unusual."""
    source: dict[str, Any]
    """Inputs (without credentials), rows read, skipped files and reader options."""
    config: dict[str, Any]
    """Settings that determine the content."""
    parent: Parent | None = None
    made_with: dict[str, str]
    """Versions of this package and of the libraries that wrote the shards."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of the content: equal for the same rows with the same numbering."""
        digest = hashlib.sha256(self.items.sha256.encode())
        self.shards.update(digest)
        return digest.hexdigest()[:32]

    def of_heldout(self) -> tuple[str, ...]:
        """Returns the fingerprints of datasets that have this one's held-out rows: its own, and of a sample its
        parent's."""
        return (self.fingerprint,) if self.parent is None else (self.fingerprint, self.parent.fingerprint)

    def contradiction(self) -> str | None:
        """Returns an inconsistency within the manifest as a clause, or None."""
        shards = self.shards
        if problem := shards.contradiction(self.items.path):
            return problem
        for name, stated, actual in (
            ("users", self.n_users, int(shards.n_users.sum())),
            ("rows", self.n_rows, int(shards.rows.sum())),
            *(
                (f"{split} rows", self.splits.get(split, 0), int(shards.split_rows(split).sum()))
                for split in sorted({*self.splits, *shards.splits})
            ),
        ):
            if stated != actual:
                return f"it states {stated:,} {name}, but its shards have {actual:,}"
        return None

    def files(self) -> Iterator[FileRecord]:
        """Yields the records of the dataset's files of items, users and rows."""
        yield self.items
        if self.shards.file:
            yield self.shards.file
        for shard in self.shards:
            yield from (shard.data, shard.users)

    def tied_share(self, split: str) -> float | None:
        """Returns the share of a split's rows that a draw chose among a user's rows with the same time; None if
        unknown."""
        return self.tied[split] / self.splits[split] if self.tied and self.splits.get(split) else None

    @property
    def has_weights(self) -> bool:
        """Whether the rows have weights."""
        return self.weight_meaning is not None

    def write(self, uri: str) -> None:
        """Writes the manifest of the dataset at ``uri``, which completes the dataset."""
        # Earlier versions read what has no weights.
        unset = set() if self.has_weights else {"weight_meaning"}
        if len(self.shards) <= MOST_INLINE:
            content = self.model_dump(mode="json", exclude=unset)
        else:
            # In the order of the fields, as with the records themselves.
            instead = {"version": 3, "shards": self.shards.write(uri).model_dump(mode="json")}
            plain = self.model_dump(mode="json", exclude={"shards"})
            fields = [name for name in type(self).model_fields if name not in unset]
            content = {name: instead.get(name, plain.get(name)) for name in fields}
        recorded.write_json(storage.join(uri, NAME), content)


DATASET_FORMAT = "distill_at_scale/dataset"
SYNTHETIC_FORMAT = "distill_at_scale/synthetic"
"""``format`` field of a synthetic dataset's manifest."""


def read_manifest(uri: str) -> Manifest:
    """Reads the manifest of the dataset at ``uri``.

    Raises:
        DasError: The manifest is missing or damaged, or a writer has not finished.
    """
    shown_uri = storage.redact(uri)
    try:
        content = storage.read_bytes(storage.join(uri, NAME))
    except StorageError:
        if storage.exists(uri) and not storage.is_folder(uri):
            raise DasError(f"{shown_uri} is a file, not a dataset; `das prepare` makes one from a log.") from None
        raise
    except FileNotFoundError:
        if storage.exists(storage.join(uri, WORK)):
            raise DasError(
                f"{shown_uri} is not a dataset: a run has not finished there; run the same command again to finish it."
            ) from None
        if not storage.exists(uri):
            raise DasError(f"{shown_uri} does not exist; `das prepare --output` makes a dataset.") from None
        raise DasError(f"{shown_uri} is not a dataset: it has no {NAME}; `das prepare` makes one from a log.") from None
    file = storage.join(uri, NAME)
    fields, checksum = recorded.parse_json(content, file, FIX)
    if fields.get("format") == SYNTHETIC_FORMAT:
        raise DasError(
            f"{shown_uri} holds synthetic users or sequences, not a log's; `das fit` and `das export` accept them, "
            "this command does not."
        )
    if fields.get("version") == 3 and isinstance(fields.get("shards"), dict):
        # Before anything else is read that it names.
        recorded.require_checksum(fields, checksum, file, FIX)
        with recorded.parsing(file, FIX):
            of_shards = FileRecord.model_validate(fields["shards"])
        fields["shards"] = ShardRecords.read(uri, of_shards, FIX)
    return recorded.as_manifest(Manifest, fields, checksum, file, FIX, Manifest.contradiction)
