"""``log.json``: what `prepare --append` needs to know of the log behind a Dataset, beside the rows.

The dataset's own files hold the rows that survived the filters. ``rest/part-00000.parquet`` holds the rows of a bucket
that did not, but that later rows can bring back: those of users and items with too few rows, and those below
``--min-rating``, which still replace older rows of the same user and item.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.manifest import FIX
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers.schema import LogSchema, ReadAs
from distill_at_scale.data.recorded import FileRecord, Inside
from distill_at_scale.errors import DasError

NAME = "log.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TakenFile(_Record):
    """A file of the log that was read."""

    uri: str
    """Address without credentials."""
    version: str
    """Version of the file, which changes with its content."""


class RestFile(_Record):
    """Rows of one bucket that are not in its shard: user_id, item_id [, rating, timestamp (nanoseconds), split]."""

    bucket: int
    whole: bool
    """Whether the file holds all rows of the bucket, since the shard's milliseconds would lose their order."""
    file: FileRecord


class Reading(_Record):
    """What reading some files of a log gave."""

    files: tuple[TakenFile, ...] = ()
    n_files: int = 0
    """Number of files with rows; those of a log in memory are not among ``files``."""
    fragments: int = 0
    rows: int = 0
    """Number of rows, without those in ``left_out``."""
    good: int = 0
    reasons: dict[str, int] = {}
    """Number of bad rows by reason."""
    quarantine: tuple[Inside, ...] = ()
    """Files of bad rows."""
    times: tuple[int, ...] = ()
    """First and last time in nanoseconds; empty without times."""
    left_out: dict[str, int] = {}
    """Number of rows excluded by --where and --event."""
    seen: tuple[tuple[str, str], ...] = ()
    """(column, value) pairs of the requested values that occur."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(file, reason) of files without rows."""
    read_as: tuple[ReadAs, ...] = ()
    gone: dict[str, int] = {}
    """Number of rows that were dropped for good, by filter."""
    noticed: tuple[Notice, ...] = ()

    def __add__(self, later: Reading) -> Reading:
        """What reading these files and then ``later`` ones gives."""
        times = (*self.times, *later.times)
        ways = {(way.format, way.delimiter, way.header, way.quote): way for way in self.read_as}
        for way in later.read_as:
            key = (way.format, way.delimiter, way.header, way.quote)
            before = ways[key].files if key in ways else 0
            ways[key] = way.model_copy(update={"files": before + way.files})
        return Reading(
            files=self.files + later.files,
            n_files=self.n_files + later.n_files,
            fragments=self.fragments + later.fragments,
            rows=self.rows + later.rows,
            good=self.good + later.good,
            reasons=_sum(self.reasons, later.reasons),
            quarantine=self.quarantine + later.quarantine,
            times=(min(times), max(times)) if times else (),
            left_out=_sum(self.left_out, later.left_out),
            seen=tuple(sorted({*self.seen, *later.seen})),
            skipped=self.skipped + later.skipped,
            read_as=tuple(ways.values()),
            gone=_sum(self.gone, later.gone),
            noticed=tuple(merge((self.noticed, later.noticed))),
        )


class LogRecord(_Record):
    """The log of the dataset beside it."""

    version: Literal[1] = 1
    fingerprint: str
    """Fingerprint of the dataset."""
    read_with: LogSchema
    buckets: int
    """Number of ranges of the users' hashes; the part of a shard's file name, modulo this, is its range."""
    reading: Reading
    rest: tuple[RestFile, ...] = ()

    @property
    def names(self) -> list[str]:
        """Columns of a row of the log, in order."""
        names = [*self.read_with.good_schema()]
        return names if "timestamp" in names or not self.read_with.positions else [*names, "timestamp"]

    def write(self, uri: str) -> None:
        """Writes the record beside the dataset at ``uri``."""
        recorded.write_json(storage.join(uri, NAME), self.model_dump(mode="json"))


def read_log_record(uri: str, fingerprint: str) -> LogRecord:
    """Reads the record of the dataset at ``uri``.

    Raises:
        DasError: There is none, or it is another dataset's.
        DamagedFileError: The file is damaged.
    """
    file, shown = storage.join(uri, NAME), storage.redact(uri)
    try:
        content = recorded.read_json(file, FIX)
    except FileNotFoundError:
        raise DasError(
            f"{shown} has no {NAME}, so rows that its filters dropped cannot be brought back: it was made by an "
            "earlier version, or not from a log; prepare all files again, and append to the result."
        ) from None
    try:
        record = LogRecord.model_validate(content)
    except ValidationError:
        raise DasError(f"{storage.redact(file)} is of another version; {FIX}.") from None
    if record.fingerprint != fingerprint:
        raise DasError(f"{storage.redact(file)} does not belong to the dataset beside it; {FIX}.")
    return record


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
