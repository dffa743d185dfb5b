"""Reads back the files that this project wrote, and compares them with their recorded size and digest.

A file that a manifest lists is compared with its :class:`FileRecord` when a process first reads it. JSON files carry
their own checksum (:func:`write_json`). A file that differs, is missing or cannot be parsed raises
:class:`~distill_at_scale.errors.DamagedFileError`, in this module and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from distill_at_scale.data import storage
from distill_at_scale.data.digests import digest_of, read_digested
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.facts import count_of
from distill_at_scale.finite_json import dumps

_M = TypeVar("_M", bound=BaseModel)
CHECKSUM = "checksum"
"""Field of a JSON file that holds the SHA-256 of the other fields."""


def _inside(path: str) -> str:
    """Rejects a path outside the manifest's folder."""
    parts = path.split("/")
    if not path or path.startswith("/") or any(c in path for c in "\\:\0") or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"path '{path}' leads out of the dataset")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class FileRecord(BaseModel):
    """One file of a folder, as described by its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Inside
    """Path relative to the manifest."""
    bytes: int = Field(ge=0)
    sha256: str
    """SHA-256 of the content, comparable by any tool."""
    digest: str = ""
    """Fast digest compared on every read (:mod:`~distill_at_scale.data.digests`); if empty, ``sha256`` is compared."""


def record_of(path: str, content: bytes | pa.Buffer) -> FileRecord:
    """Returns the record of a file with this content."""
    sha256, digest = hashlib.sha256(content).hexdigest(), digest_of(content).hex()
    return FileRecord(path=path, bytes=len(content), sha256=sha256, digest=digest)


# -- files that a manifest lists -------------------------------------------------------------------------------------

# (URI, digest) -> the file's stamp when it was verified. A forgotten entry costs only one more reading.
Stamp = tuple[int, int, int] | None
_verified: dict[tuple[str, str], Stamp] = {}
_MOST_VERIFIED = 1 << 17


def open_recorded(folder: str, record: FileRecord, fix: str) -> pa.NativeFile:
    """Opens a recorded file; close it, or use ``with``.

    On its first use in a process the whole file is read, compared with its record and served from memory. Later calls
    read only the requested ranges, provided that a local file's size and modification time are unchanged.

    Args:
        folder: Folder of the manifest.
        record: Record of the file.
        fix: Remedy for a damaged file, as the end of a sentence.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    uri = storage.join(folder, record.path)
    before = stamp(uri)
    with missing_is_damage(uri, fix):
        file = storage.open_input(uri)
    if is_verified(uri, record.sha256):
        return file
    with file:
        content = _compared(file, uri, record, fix)
    set_verified(uri, record.sha256, before)
    return pa.BufferReader(content)


def read_recorded(folder: str, record: FileRecord, fix: str, thorough: bool = False) -> pa.Buffer:
    """Reads a whole recorded file and compares it with its record; with ``thorough``, by SHA-256.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    uri = storage.join(folder, record.path)
    with missing_is_damage(uri, fix), storage.open_input(uri) as file:
        return _compared(file, uri, record, fix, thorough)


def read_parquet(
    folder: str, record: FileRecord, fix: str, columns: Sequence[str] | None = None, rows: int | None = None
) -> pa.Table:
    """Reads a recorded Parquet file: all columns, or the named ones.

    Args:
        folder, record, fix: As in :func:`open_recorded`.
        columns: Names of the columns to read.
        rows: Number of rows stated by the manifest; None: not stated.

    Raises:
        DamagedFileError: The file is missing, altered or unreadable, or has another number of rows.
    """
    uri = storage.join(folder, record.path)
    with open_recorded(folder, record, fix) as file, parsing(uri, fix):
        parquet = pq.ParquetFile(file)
        actual = parquet.metadata.num_rows
        if rows is not None and actual != rows:
            raise DamagedFileError(
                f"{storage.redact(uri)} has {count_of(actual, 'row')}, but its manifest says {rows:,}; {fix}."
            )
        return parquet.read(columns=None if columns is None else list(columns))


def is_verified(uri: str, digest: str) -> bool:
    """Returns whether this process has verified the file against this digest and, if it is local, it is unchanged."""
    key = (uri, digest)
    return key in _verified and _verified[key] == stamp(uri)


def set_verified(uri: str, digest: str, before: Stamp) -> None:
    """Records that a file was verified; ``before`` is its stamp before it was read."""
    if len(_verified) >= _MOST_VERIFIED:
        _verified.clear()
    _verified[uri, digest] = before


def stamp(uri: str) -> Stamp:
    """Returns what changes when a local file changes; None for other storages, whose files are verified only once."""
    if not storage.is_local(uri):
        return None
    try:
        status = os.stat(storage.local_path(uri))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _compared(file: pa.NativeFile, uri: str, record: FileRecord, fix: str, thorough: bool = False) -> pa.Buffer:
    content, digest = read_digested(file, file.size())
    same = len(content) == record.bytes and record.digest in ("", digest.hex())
    if same and (thorough or not record.digest):
        same = hashlib.sha256(content).hexdigest() == record.sha256
    if not same:
        raise DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
    return content


# -- JSON with its own checksum --------------------------------------------------------------------------------------


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its own checksum, for :func:`read_json`."""
    # The checksum covers the content as read back: tuples become lists, keys become strings.
    plain = json.loads(dumps(content))
    plain.pop(CHECKSUM, None)
    storage.write_json(uri, {**plain, CHECKSUM: _checksum(plain)})


def read_json(uri: str, fix: str) -> dict[str, Any]:
    """Reads an object that :func:`write_json` wrote.

    Args:
        uri: Address of the file.
        fix: Remedy for a damaged file, as the end of a sentence.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: The file is not a JSON object, or its checksum is missing or wrong.
    """
    content, checksum = parse_json(storage.read_bytes(uri), uri, fix)
    require_checksum(content, checksum, uri, fix, version=None)
    return content


Checksum = Literal["right", "wrong", "none"]
"""Result of comparing a JSON file with its own checksum."""


def parse_json(raw: bytes, uri: str, fix: str) -> tuple[dict[str, Any], Checksum]:
    """Parses a JSON object and compares its checksum, without raising: the caller reports another version first.

    Returns:
        The object without its checksum, and the result for :func:`require_checksum`.

    Raises:
        DamagedFileError: The content is not a JSON object.
    """
    with parsing(uri, fix):
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        stored = content.pop(CHECKSUM, None)
        if stored is None:
            return content, "none"
        return content, "right" if stored == _checksum(content) else "wrong"


def require_checksum(
    content: Mapping[str, Any], checksum: Checksum, uri: str, fix: str, version: str | None = "version"
) -> None:
    """Rejects a file whose checksum is wrong or missing. Files of version 1 have none and are accepted.

    Args:
        content, checksum: Results of :func:`parse_json`.
        uri: Address of the file.
        fix: Remedy for a damaged file, as the end of a sentence.
        version: Name of the version field; None: files of every version have a checksum.

    Raises:
        DamagedFileError: The checksum is wrong or missing.
    """
    if checksum == "wrong":
        raise DamagedFileError(f"{storage.redact(uri)} differs from its own checksum; {fix}.")
    if checksum == "none" and (version is None or content.get(version, 1) != 1):
        raise DamagedFileError(f"{storage.redact(uri)} has no checksum; {fix}.")


def read_manifest(
    model: type[_M], raw: bytes, uri: str, fix: str, contradiction: Callable[[_M], str | None] = lambda _: None
) -> _M:
    """Parses and validates a manifest.

    Args:
        model: Model with a ``version`` field; version 1 has no checksum.
        raw: Content of the file.
        uri: Address of the file.
        fix: Remedy for a damaged file, as the end of a sentence.
        contradiction: Function that returns an inconsistency within the manifest as a clause, or None.

    Raises:
        DamagedFileError: Another version, an invalid field, a contradiction, or a wrong or missing checksum.
    """
    return as_manifest(model, *parse_json(raw, uri, fix), uri, fix, contradiction)


def as_manifest(
    model: type[_M],
    content: Mapping[str, Any],
    checksum: Checksum,
    uri: str,
    fix: str,
    contradiction: Callable[[_M], str | None] = lambda _: None,
) -> _M:
    """Validates what :func:`parse_json` gave of a manifest; arguments and errors as for :func:`read_manifest`."""
    file = storage.redact(uri)
    try:
        manifest = model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DamagedFileError(f"{file} is damaged or of another version: {field}: {first['msg']}; {fix}.") from None
    if problem := contradiction(manifest):
        raise DamagedFileError(f"{file} contradicts itself: {problem}; {fix}.")
    require_checksum(content, checksum, uri, fix)
    return manifest


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# -- how libraries fail on damaged files -----------------------------------------------------------------------------

_PARSING = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zlib.error,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    safetensors.SafetensorError,
)


@contextlib.contextmanager
def parsing(uri: str, fix: str) -> Iterator[None]:
    """Turns the exceptions that parsers raise on the content of ``uri`` into one sentence.

    Use it for content in memory: the failure is then the content's, not the storage's.

    Raises:
        DamagedFileError: A parser failed.
    """
    try:
        yield
    except DasError:
        raise
    except _PARSING as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DamagedFileError(f"{storage.redact(uri)} is damaged or of another version ({what}); {fix}.") from error


@contextlib.contextmanager
def missing_is_damage(uri: str, fix: str) -> Iterator[None]:
    """Treats a missing recorded file as damage."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedFileError(f"{storage.redact(uri)} is missing; {fix}.") from None
