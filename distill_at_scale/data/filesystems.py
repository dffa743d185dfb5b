"""File systems behind URIs, and their listings. Nothing is cached, and no failure is mistaken for a missing file."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec
import pyarrow.fs as pafs
from fsspec.dircache import DirCache

from distill_at_scale import uris
from distill_at_scale.data.storage_errors import explain, shown
from distill_at_scale.errors import DasError, SettingError, StorageError
from distill_at_scale.uris import is_local, local_path, redact, scheme_of

WEB = ("http", "https")
# Fields of a listing, by client, that change when the file changes; the size is compared as well.
_TAGS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modify", "created")


@dataclass(frozen=True)
class FileInfo:
    """A file in a listing. ``version`` (ETag or time in nanoseconds, and size) changes with the content; compare two
    versions with :func:`same_version`."""

    uri: str
    size: int
    version: str


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of ``uri`` and the path on it. It caches no listings, since other processes write too.

    Raises:
        SettingError: The address contains a user name or password.
        StorageError: fsspec does not know the scheme, its package is missing, or it needs more settings.
    """
    if is_local(uri):
        return fsspec.filesystem("file"), local_path(uri)
    _refuse_credentials(uri)
    scheme = scheme_of(uri) or ""
    try:
        kind = _client(scheme)
        options = {"use_listings_cache": False} if scheme in ("s3", "s3a") else {}
        with explain(uri):
            fs = kind(**kind._get_kwargs_from_urls(uri), **options)
            path = fs._strip_protocol(uri)
    except DasError:
        raise
    # The client is missing or broken, or requires arguments that a URI cannot carry.
    except Exception as error:
        reason = shown(error, uri)
        raise StorageError(f"{redact(uri)}: storage scheme '{scheme}' cannot be used here: {reason}.") from error
    if isinstance(getattr(fs, "dircache", None), DirCache):
        fs.dircache = DirCache(use_listings_cache=False)
    return fs, path


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Returns the file system of ``uri`` for libraries that want Arrow's, and the path on it."""
    if is_local(uri):
        return pafs.LocalFileSystem(), local_path(uri)
    fs, path = filesystem(uri)
    return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), path


def _client(scheme: str) -> type[fsspec.AbstractFileSystem]:
    if scheme in ("s3", "s3a"):
        from distill_at_scale.data.patient_s3 import PatientS3  # takes a while to load

        return PatientS3
    return fsspec.get_filesystem_class(scheme)


def normalise(uri: str) -> str:
    """Returns an absolute form of ``uri``, so that it means the same to workers with another working directory.

    Raises:
        SettingError: The address contains a user name or password.
    """
    if is_local(uri):
        return local_path(uri)
    _refuse_credentials(uri)
    return uri.rstrip("/")


def _refuse_credentials(uri: str) -> None:
    try:
        uris.check(uri)
    except ValueError as error:
        raise SettingError(f"{error}.") from None


# -- listings ---------------------------------------------------------------------------------------------------------


def exists(uri: str) -> bool:
    """Returns whether ``uri`` is an existing file or folder.

    Raises:
        StorageError: The storage does not answer.
    """
    return _kind(uri) is not None


def is_folder(uri: str) -> bool:
    """Returns whether ``uri`` is a folder (on object stores: a prefix of at least one object)."""
    return _kind(uri) == "directory"


def _kind(uri: str) -> str | None:
    fs, path = filesystem(uri)
    # exists() and isdir() of many file systems return False on any failure.
    try:
        with explain(uri):
            if is_local(uri):
                return "directory" if modes.S_ISDIR(os.stat(path).st_mode) else "file"
            return str(fs.info(path)["type"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def stat(uri: str) -> FileInfo:
    """Returns the listing entry of the file at ``uri``.

    Raises:
        FileNotFoundError: The file does not exist.
        StorageError: The storage cannot be reached.
    """
    fs, path = filesystem(uri)
    with explain(uri):
        return _info(fs, path, {} if is_local(uri) else fs.info(path), local=is_local(uri))


def list_files(uri: str) -> list[FileInfo]:
    """Lists all files below the folder ``uri`` (or the file ``uri`` itself), sorted by URI; a missing one gives
    none."""
    fs, path = filesystem(uri)
    local = is_local(uri)
    try:
        with explain(uri):
            if local:
                return [_local_info(file) for file in sorted(_walk(path))]
            if scheme_of(uri) in WEB:
                return [stat(uri)]
            # Other clients skip folders that they cannot list, unless told to raise.
            strict = {} if scheme_of(uri) in ("s3", "s3a") else {"on_error": "raise"}
            return _infos(fs, fs.find(path, detail=True, **strict))
    except FileNotFoundError:
        return []


def _walk(path: str) -> Iterator[str]:
    if not modes.S_ISDIR(os.stat(path).st_mode):
        yield path
        return

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
        for link in (os.path.join(folder, name) for name in folders):
            if os.path.islink(link) and _above(os.path.realpath(link), os.path.realpath(folder)):
                raise StorageError(f"{link}: this link points to a folder above it, a loop without end; remove it.")
        yield from (os.path.join(folder, name) for name in names)


def _above(folder: str, other: str) -> bool:
    """Whether ``folder`` is ``other``, or holds it."""
    return os.path.commonpath((folder, other)) == folder


def _local_info(path: str) -> FileInfo:
    """A file that a folder lists.

    Raises:
        StorageError: a link to nothing, or a name that no address can hold.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        shown_path = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise StorageError(f"{shown_path}: the name of this file is not UTF-8; rename it.") from None
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise StorageError(f"{path}: this link points to a missing file; fix or remove it.") from None
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"{path}: this link points to itself, over one link or several; remove it.") from None
        raise
    return FileInfo(path, found.st_size, f"size={found.st_size}\nmtime={found.st_mtime_ns}")


def glob(uri: str) -> list[FileInfo]:
    """Lists the files that match a pattern (``*``, ``?``, ``[…]``, ``**``), sorted by URI."""
    fs, path = filesystem(uri)
    if scheme_of(uri) in WEB:
        return []
    with explain(uri):
        return _infos(fs, fs.glob(path, detail=True))


def _infos(fs: fsspec.AbstractFileSystem, listing: dict[str, dict[str, Any]]) -> list[FileInfo]:
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    infos = []
    for path, entry in listing.items():
        # Some clients return an entry without a type if the path itself is a file.
        info = entry if local or "type" in entry else fs.info(path)
        if info["type"] != "directory":
            infos.append(_info(fs, path, info, local))
    return sorted(infos, key=lambda f: f.uri)


def _info(fs: fsspec.AbstractFileSystem, path: str, info: Mapping[str, Any], local: bool) -> FileInfo:
    if local:
        return _local_info(path)
    uri = str(fs.unstrip_protocol(path))
    if info.get("size") is None:
        raise StorageError(
            f"{redact(uri)}: the server does not report the size of the file; download it and name that."
        )
    tags = [f"{key}={_plain(info[key])}" for key in _TAGS if info.get(key)]
    return FileInfo(uri, int(info["size"]), "\n".join([f"size={int(info['size'])}", *tags]))


def _plain(tag: Any) -> str:
    """A time as text. A listing may give a time as a number where a request for the file gives a datetime."""
    if isinstance(tag, datetime):
        return str(tag.timestamp())
    return str(float(tag)) if isinstance(tag, int | float) else str(tag).strip('"')


def same_version(one: str, other: str) -> bool:
    """Returns whether two versions of a file are equal, by the best tag that both have: a listing may have fewer."""
    first, second = (dict(line.split("=", 1) for line in version.split("\n")) for version in (one, other))
    common = ["size", *[key for key in _TAGS if key in first and key in second][:1]]
    return all(first.get(key) == second.get(key) for key in common)
