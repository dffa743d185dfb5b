"""What a Dataset's ``manifest.json`` says: the schema of the currency that everything trades in."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.errors import DasError

NAME = "manifest.json"
WORK = "_work"
"""Folder of an unfinished writer, inside its output; gone once the manifest is there."""
VERSION = 1


def _inside(path: str) -> str:
    """Refuses a path that would lead out of the folder of its manifest."""
    parts = path.split("/")
    if not path or path.startswith("/") or any(c in path for c in "\\:\0") or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"path '{path}' leads out of the dataset")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """One file of a dataset."""

    path: Inside
    """relative to the manifest"""
    bytes: int
    sha256: str


class ShardRecord(_Record):
    """A shard: whole users, their rows sorted by (user, timestamp); of equal times a draw decides."""

    data: FileRecord
    users: FileRecord
    first_user: int
    n_users: int
    rows: int
    splits: dict[str, int]
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
    version: Literal[1] = 1
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
    has_timestamps: bool
    timestamp_unit: Literal["ms"] = "ms"
    """milliseconds since 1970 UTC"""
    id_types: dict[str, Literal["int64", "string"]]
    items: FileRecord
    item_space: str
    """fingerprint of which number is which item; a sample has that of its parent"""
    shards: list[ShardRecord]
    dropped: dict[str, int]
    """rows that each filter took: duplicates, min_rating, min_item, min_user, short_history, split"""
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

    def write(self, uri: str) -> None:
        """Writes the manifest of the dataset at ``uri``; from here on it is a dataset."""
        storage.write_bytes(storage.join(uri, NAME), (self.model_dump_json(indent=1) + "\n").encode())


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
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        if SYNTHETIC_FORMAT.encode() in content:
            raise DasError(
                f"{place} holds synthetic users or sequences, not a log's; `das fit` and `das export` take them, this "
                "does not."
            ) from None
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DasError(
            f"{storage.join(place, NAME)} is damaged or of another version: {field}: {first['msg']}."
        ) from None
