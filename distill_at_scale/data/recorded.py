"""Files that this project wrote, read with what was recorded of them: size and digest.

A file that a manifest lists is compared with its :class:`FileRecord` when a process first reads it. JSON that is read
back carries a checksum of itself (:func:`write_json`). What differs, is missing or cannot be parsed is a
:class:`~distill_at_scale.errors.DamagedFileError`, raised here and nowhere else.
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
from distill_at_scale.finite_json import dumps

_M = TypeVar("_M", bound=BaseModel)
CHECKSUM = "checksum"
"""field of a JSON file with the SHA-256 of the rest"""


def _inside(path: str) -> str:
    """Refuses a path that would lead out of the folder of its manifest."""
    parts = path.split("/")
    if not path or path.startswith("/") or any(c in path for c in "\\:\0") or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"path '{path}' leads out of the dataset")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class FileRecord(BaseModel):
    """One file of a folder, as its manifest describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Inside
    """relative to the manifest"""
    bytes: int = Field(ge=0)
    sha256: str
    """what tells contents apart, for anybody"""
    digest: str = ""
    """what a reading is compared with, being faster (:mod:`~distill_at_scale.data.digests`); "": with ``sha256``"""


def record_of(path: str, content: bytes | pa.Buffer) -> FileRecord:
    """The record of a file with this content."""
    sha256, digest = hashlib.sha256(content).hexdigest(), digest_of(content).hex()
    return FileRecord(path=path, bytes=len(content), sha256=sha256, digest=digest)


# -- files that a manifest lists -------------------------------------------------------------------------------------

# (URI, digest) -> what told then whether the file changes. Entries are small, and forgetting one costs a reading.
Stamp = tuple[int, int, int] | None
_verified: dict[tuple[str, str], Stamp] = {}
_MOST_VERIFIED = 1 << 17


def open_recorded(folder: str, record: FileRecord, fix: str) -> pa.NativeFile:
    """Opens a recorded file; close it, or use ``with``.

    The first time in a process the whole file is read, compared with its record and served from memory; after that
    only what is asked for is read, as long as a local file's size and time stay the same.

    Args:
        folder: of the manifest.
        record: of the file.
        fix: what to do where it is damaged; the end of a sentence.

    Raises:
        DamagedFileError: missing, truncated or altered.
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
    """The whole content of a recorded file, compared with its record; with ``thorough``, by SHA-256.

    Raises:
        DamagedFileError: missing, truncated or altered.
    """
    uri = storage.join(folder, record.path)
    with missing_is_damage(uri, fix), storage.open_input(uri) as file:
        return _compared(file, uri, record, fix, thorough)


def read_parquet(
    folder: str, record: FileRecord, fix: str, columns: Sequence[str] | None = None, rows: int | None = None
) -> pa.Table:
    """A recorded Parquet file, all columns or those named.

    Args:
        folder, record, fix: as of :func:`open_recorded`.
        columns: their names.
        rows: how many the manifest says there are; None: it does not say.

    Raises:
        DamagedFileError: missing, altered, unreadable, or with another number of rows.
    """
    uri = storage.join(folder, record.path)
    with open_recorded(folder, record, fix) as file, parsing(uri, fix):
        parquet = pq.ParquetFile(file)
        found = parquet.metadata.num_rows
        if rows is not None and found != rows:
            raise DamagedFileError(f"{storage.redact(uri)} has {found:,} rows where its manifest says {rows:,}; {fix}.")
        return parquet.read(columns=None if columns is None else list(columns))


def is_verified(uri: str, digest: str) -> bool:
    """Whether this process has compared a file with this digest, and a local one has not changed since."""
    key = (uri, digest)
    return key in _verified and _verified[key] == stamp(uri)


def set_verified(uri: str, digest: str, before: Stamp) -> None:
    """Says so; ``before`` is the file's stamp before it was read."""
    if len(_verified) >= _MOST_VERIFIED:
        _verified.clear()
    _verified[uri, digest] = before


def stamp(uri: str) -> Stamp:
    """What tells that a local file has changed; other storages are asked only once."""
    if not storage.is_local(uri):
        return None
    try:
        found = os.stat(storage.local_path(uri))
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _compared(file: pa.NativeFile, uri: str, record: FileRecord, fix: str, thorough: bool = False) -> pa.Buffer:
    content, digest = read_digested(file, file.size())
    same = len(content) == record.bytes and record.digest in ("", digest.hex())
    if same and (thorough or not record.digest):
        same = hashlib.sha256(content).hexdigest() == record.sha256
    if not same:
        raise DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
    return content


# -- JSON with a checksum of itself ----------------------------------------------------------------------------------


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its own checksum, for :func:`read_json`."""
    # As a reader will see it: tuples are lists, keys are strings.
    plain = json.loads(dumps(content))
    plain.pop(CHECKSUM, None)
    storage.write_json(uri, {**plain, CHECKSUM: _checksum(plain)})


def read_json(uri: str, fix: str) -> dict[str, Any]:
    """What :func:`write_json` wrote.

    Args:
        uri: of the file.
        fix: what to do where it is damaged; the end of a sentence.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: no JSON object, without a checksum, or with a wrong one.
    """
    content, checksum = parse_json(storage.read_bytes(uri), uri, fix)
    require_checksum(content, checksum, uri, fix, version=None)
    return content


Checksum = Literal["right", "wrong", "none"]
"""How a JSON file's checksum was found"""


def parse_json(raw: bytes, uri: str, fix: str) -> tuple[dict[str, Any], Checksum]:
    """A JSON object without its checksum, and how that was found, for :func:`require_checksum`: what is of another
    version is better told so.

    Raises:
        DamagedFileError: no JSON object.
    """
    with parsing(uri, fix):
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        said = content.pop(CHECKSUM, None)
        if said is None:
            return content, "none"
        return content, "right" if said == _checksum(content) else "wrong"


def require_checksum(
    content: Mapping[str, Any], checksum: Checksum, uri: str, fix: str, version: str | None = "version"
) -> None:
    """Refuses a file with a wrong checksum, and one without, unless it is of the first version, which had none.

    Args:
        content, checksum: as :func:`parse_json` gives them.
        uri: of the file.
        fix: what to do where it is damaged; the end of a sentence.
        version: the field that says which it is, where there were files without a checksum.

    Raises:
        DamagedFileError: saying which.
    """
    if checksum == "wrong":
        raise DamagedFileError(f"{storage.redact(uri)} differs from its own checksum; {fix}.")
    if checksum == "none" and (version is None or content.get(version, 1) != 1):
        raise DamagedFileError(f"{storage.redact(uri)} has no checksum; {fix}.")


def read_manifest(
    model: type[_M], raw: bytes, uri: str, fix: str, contradiction: Callable[[_M], str | None] = lambda _: None
) -> _M:
    """A manifest that a file holds.

    Args:
        model: with a ``version``, of which the first had no checksum.
        raw: content of the file.
        uri: of the file.
        fix: what to do where it is damaged; the end of a sentence.
        contradiction: what in it cannot be true beside the rest of it, as a clause; None where nothing is.

    Raises:
        DamagedFileError: another version, a wrong field, a contradiction, a wrong checksum or none.
    """
    content, checksum = parse_json(raw, uri, fix)
    file = storage.redact(uri)
    try:
        found = model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DamagedFileError(f"{file} is damaged or of another version: {field}: {first['msg']}; {fix}.") from None
    if problem := contradiction(found):
        raise DamagedFileError(f"{file} contradicts itself: {problem}; {fix}.")
    require_checksum(content, checksum, uri, fix)
    return found


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# -- the one place that knows how libraries fail on damaged files ----------------------------------------------------

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
    """Turns the many ways in which content that was read from ``uri`` fails to parse into one sentence.

    For content in memory: what fails here is the content, not the storage.

    Raises:
        DamagedFileError: for whatever a parser raised.
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
    """A recorded file that is not there is damage too."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedFileError(f"{storage.redact(uri)} is missing; {fix}.") from None
