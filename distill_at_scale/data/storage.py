"""Files on any storage: local disk, s3:// and whatever else fsspec knows; whole files appear at once or not at all.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` …); an address that carries
them is refused, and none reaches a manifest, a log or an error message.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat as modes
import uuid
from collections.abc import Iterator
from typing import IO, Any

import fsspec
import pyarrow as pa

from distill_at_scale.data.filesystems import (
    WEB,
    FileInfo,
    exists,
    filesystem,
    glob,
    is_folder,
    list_files,
    normalise,
    same_version,
    stat,
)
from distill_at_scale.data.storage_errors import explain, shown
from distill_at_scale.errors import DamagedFileError, StorageError
from distill_at_scale.finite_json import dumps
from distill_at_scale.uris import is_local, join, local_path, redact, scheme_of

__all__ = [
    "FileInfo",
    "check_writable",
    "drafted",
    "exists",
    "explain",
    "filesystem",
    "glob",
    "is_folder",
    "is_local",
    "join",
    "list_files",
    "local_path",
    "normalise",
    "open_input",
    "open_output",
    "read_bytes",
    "read_json",
    "read_range",
    "redact",
    "remove",
    "sha256",
    "stat",
    "unchanged",
    "write_bytes",
    "write_json",
]

# What a web server that serves no parts of a file has to send whole.
_MOST_UNSEEKABLE = 1 << 30


# -- reading ----------------------------------------------------------------------------------------------------------


def open_input(uri: str, scattered: bool = False) -> pa.NativeFile:
    """Opens a file for reading through Arrow (close it, or use ``with``).

    Args:
        uri: of the file.
        scattered: a few ranges are wanted, not the file from end to end: nothing is read ahead.

    Raises:
        FileNotFoundError, StorageError: missing; out of reach.
    """
    if is_local(uri):
        with explain(uri):
            return pa.OSFile(local_path(uri), "rb")
    fs, path = filesystem(uri)
    with explain(uri):
        if scheme_of(uri) in WEB and not _serves_parts(uri):
            return pa.BufferReader(_whole(fs, path, uri))
        options = {"cache_type": "none"} if scattered else {}
        return pa.PythonFile(fs.open(path, "rb", **options), mode="r")


def read_range(uri: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of a file, of a shorter one those that there are."""
    fs, path = filesystem(uri)
    with explain(uri):
        if scheme_of(uri) in WEB and not _serves_parts(uri):
            return _whole(fs, path, uri)[start:end]
        return bytes(fs.cat_file(path, start=start, end=end))


def read_bytes(uri: str) -> bytes:
    """The whole content of a small file."""
    fs, path = filesystem(uri)
    with explain(uri):
        return bytes(fs.cat_file(path))


def _serves_parts(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bool(answer.status == 206)
    except urllib.error.URLError:
        return True  # the client's own request says better what is wrong


def _whole(fs: fsspec.AbstractFileSystem, path: str, uri: str) -> bytes:
    size = stat(uri).size
    if size > _MOST_UNSEEKABLE:
        raise StorageError(
            f"{redact(uri)}: the server sends whole files only, and this one has {size:,} bytes; download it and name "
            "that."
        )
    return bytes(fs.cat_file(path))


@contextlib.contextmanager
def unchanged(uri: str, version: str) -> Iterator[None]:
    """Reading inside is of one version of a file: compared before and after, and where something failed.

    Args:
        uri: of the file.
        version: as a listing told it; an empty one is not compared.

    Raises:
        StorageError: another one is there now, or none.
    """
    _compare_version(uri, version)
    try:
        yield
    except Exception:
        _compare_version(uri, version)
        raise
    _compare_version(uri, version)


def _compare_version(uri: str, version: str) -> None:
    try:
        if not version or same_version(stat(uri).version, version):
            return
    except FileNotFoundError:
        raise StorageError(f"{redact(uri)}: the file is not there (any more); run the command again.") from None
    raise StorageError(f"{redact(uri)} changed while it was read; run the command again.")


def sha256(uri: str) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open_input(uri) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


# -- writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """A file to write to; it appears under its name only when the block ends without an error."""
    _refuse_web(uri)
    fs, path = filesystem(uri)
    if is_local(uri):
        with explain(uri):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            draft = _draft(path)
            try:
                with open(draft, "wb") as file:
                    yield file
                os.replace(draft, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft)
        return
    with explain(uri):
        file = fs.open(path, "wb")
        try:
            yield file
        except BaseException:
            # Closing would commit half a file; discarding drops the upload.
            with contextlib.suppress(Exception):
                file.discard()
            file.closed = True
            raise
        file.close()


_DRAFT = re.compile(r"(.*/)?\.([^/]+)\.[0-9a-f]{32}\.draft")


def _draft(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex}.draft"


def drafted(path: str) -> str | None:
    """The file that ``path`` is an unfinished draft of, left by a killed :func:`open_output`; None for others."""
    return _DRAFT.sub(r"\1\2", path) if _DRAFT.fullmatch(path) else None


def check_writable(uri: str) -> None:
    """Refuses a file that could not be written, before the work that would make it; nothing is left behind.

    A few bytes are written beside it: into the nearest folder that there is on local disks.

    Raises:
        SettingError: for an address with a user name or password in it.
        StorageError: no rights, no space, a file where a folder should be, a storage that cannot be written to.
    """
    _refuse_web(uri)
    fs, path = filesystem(uri)
    probe = _draft(path)
    try:
        with explain(uri):
            if is_local(uri):
                _probe_disk(path, os.path.basename(probe))
            else:
                fs.pipe_file(probe, b"das")
    except FileNotFoundError as error:
        raise StorageError(f"{redact(uri)} cannot be written: {shown(error, uri)}.") from error
    if not is_local(uri):
        with contextlib.suppress(Exception):
            fs.rm_file(probe)


def _probe_disk(path: str, probe: str) -> None:
    if os.path.isdir(path):
        raise StorageError(f"{path} is a folder where a file is to be written; choose another --output.")
    folder = os.path.dirname(path)
    while not _is_local_folder(folder):
        folder = os.path.dirname(folder)
    place = os.path.join(folder, probe)
    with open(place, "wb") as file:
        file.write(b"das")
    os.unlink(place)


def _refuse_web(uri: str) -> None:
    if scheme_of(uri) in WEB:
        raise StorageError(f"{redact(uri)}: web servers cannot be written to; choose a folder or an object store.")


def _is_local_folder(path: str) -> bool:
    try:
        if modes.S_ISDIR(os.stat(path).st_mode):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    raise NotADirectoryError(errno.ENOTDIR, f"{path} is a file, so that no folder can be made there")


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a whole file at once."""
    with open_output(uri) as file:
        file.write(content)


def remove(uri: str) -> None:
    """Deletes a file or a whole folder; nothing happens when it is not there."""
    fs, path = filesystem(uri)
    with explain(uri), contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


# -- JSON -------------------------------------------------------------------------------------------------------------


def read_json(uri: str) -> Any:
    """A JSON file's content.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: when it is no JSON.
    """
    try:
        return json.loads(read_bytes(uri))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{redact(uri)}: not valid JSON ({error}).") from error


def write_json(uri: str, content: Any) -> None:
    """Writes JSON, indented and with a final newline; what is no number becomes null."""
    write_bytes(uri, (dumps(content, indent=2) + "\n").encode())
