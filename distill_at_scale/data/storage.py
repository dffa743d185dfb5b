"""Files on any storage: local disk, s3:// and everything else that fsspec supports. Writes are atomic per file.

Credentials come only from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` …). URIs that contain
credentials are rejected, and no credentials reach a manifest, a log or an error message.
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

from distill_at_scale.data import archives
from distill_at_scale.data.filesystems import (
    WEB,
    FileInfo,
    arrow_filesystem,
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
from distill_at_scale.uris import file_of_member, is_local, is_member, join, local_path, redact, scheme_of

__all__ = [
    "FileInfo",
    "arrow_filesystem",
    "check_writable",
    "drafted",
    "exists",
    "explain",
    "filesystem",
    "glob",
    "is_folder",
    "is_local",
    "is_member",
    "join",
    "list_files",
    "local_path",
    "members",
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

# Servers without range requests send whole files; larger ones are refused.
_MOST_UNSEEKABLE = 1 << 30


# -- reading ----------------------------------------------------------------------------------------------------------


def open_input(uri: str, scattered: bool = False) -> pa.NativeFile:
    """Opens a file for reading through Arrow (close it, or use ``with``).

    Args:
        uri: Address of the file.
        scattered: Reads only a few ranges of the file, so nothing is read ahead.

    Raises:
        FileNotFoundError: The file does not exist.
        StorageError: The storage cannot be reached.
    """
    if is_member(uri):
        return archives.open_member(uri, scattered, open_input)
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
    """Reads the bytes [start, end) of a file, fewer if it is shorter."""
    if is_member(uri):
        with open_input(uri) as file:
            return bytes(file.read(end)[start:])
    fs, path = filesystem(uri)
    with explain(uri):
        if scheme_of(uri) in WEB and not _serves_parts(uri):
            return _whole(fs, path, uri)[start:end]
        return bytes(fs.cat_file(path, start=start, end=end))


def read_bytes(uri: str) -> bytes:
    """Reads a small file."""
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
        return True  # the error of the client's own request is clearer


def _whole(fs: fsspec.AbstractFileSystem, path: str, uri: str) -> bytes:
    size = stat(uri).size
    if size > _MOST_UNSEEKABLE:
        raise StorageError(
            f"{redact(uri)}: the server sends whole files only, and this one has {size:,} bytes; download it and name "
            "that."
        )
    return bytes(fs.cat_file(path))


def members(archive: FileInfo) -> archives.Members:
    """Lists the members of an archive; see :func:`distill_at_scale.data.archives.members`."""
    return archives.members(archive, open_input)


@contextlib.contextmanager
def unchanged(uri: str, version: str) -> Iterator[None]:
    """Checks that a file's version is unchanged before and after the block, and when the block fails.

    Args:
        uri: Address of the file.
        version: Version from a listing; an empty one is not compared.

    Raises:
        StorageError: The file has changed or is missing.
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
        # A member changes with its archive.
        if not version or same_version(stat(file_of_member(uri)).version, version):
            return
    except FileNotFoundError:
        raise StorageError(f"{redact(uri)}: the file no longer exists; run the command again.") from None
    raise StorageError(f"{redact(uri)} changed while it was being read; run the command again.")


def sha256(uri: str) -> str:
    """Returns the hex SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open_input(uri) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


# -- writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """Opens a file for writing; it appears under its name only if the block ends without an error."""
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
            # Closing would commit a partial file; discarding drops the upload.
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
    """Returns the name of the file whose draft ``path`` is, left behind by a killed :func:`open_output`; else None."""
    return _DRAFT.sub(r"\1\2", path) if _DRAFT.fullmatch(path) else None


def check_writable(uri: str) -> None:
    """Rejects an output that cannot be written, before the work that makes it.

    The check writes a few bytes beside the file, on local disks into the nearest existing folder, and removes them.

    Raises:
        SettingError: The address contains a user name or password.
        StorageError: No permission, no space, a file in place of a folder, or a read-only kind of storage.
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
        raise StorageError(f"{path} is a folder, but the output is a file; choose another --output.")
    folder = os.path.dirname(path)
    while not _is_local_folder(folder):
        folder = os.path.dirname(folder)
    draft = os.path.join(folder, probe)
    with open(draft, "wb") as file:
        file.write(b"das")
    os.unlink(draft)


def _refuse_web(uri: str) -> None:
    if scheme_of(uri) in WEB:
        raise StorageError(f"{redact(uri)}: a web server is read-only; choose a folder or an object store.")


def _is_local_folder(path: str) -> bool:
    try:
        if modes.S_ISDIR(os.stat(path).st_mode):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    raise NotADirectoryError(errno.ENOTDIR, f"{path} is a file, so no folder can be created there")


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a whole file at once."""
    with open_output(uri) as file:
        file.write(content)


def remove(uri: str) -> None:
    """Deletes a file or a whole folder; does nothing if it does not exist."""
    fs, path = filesystem(uri)
    with explain(uri), contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


# -- JSON -------------------------------------------------------------------------------------------------------------


def read_json(uri: str) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: The content is not valid JSON.
    """
    try:
        return json.loads(read_bytes(uri))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{redact(uri)}: not valid JSON ({error}).") from error


def write_json(uri: str, content: Any) -> None:
    """Writes JSON, indented and with a final newline; NaN and infinities become null."""
    write_bytes(uri, (dumps(content, indent=2) + "\n").encode())
