"""Files on any storage: local disk, s3:// and whatever else fsspec knows; whole files appear at once or not at all.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` …) and never
reach a manifest, a log or an error message.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import pyarrow as pa

from distill_at_scale.errors import DasError

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")


@dataclass(frozen=True)
class FileInfo:
    """A file in a listing; ``version`` changes when its content does (ETag or modification time)."""

    uri: str
    size: int
    version: str


def is_local(uri: str) -> bool:
    """Whether ``uri`` lies on this machine's own file system."""
    found = _SCHEME.match(uri)
    return found is None or found.group(1) in ("file", "local")


def local_path(uri: str) -> str:
    """The absolute path of a local ``uri``."""
    return os.path.abspath(os.path.expanduser(re.sub(r"^(file|local)://", "", uri)))


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of ``uri`` and the path on it.

    Raises:
        DasError: for a scheme that fsspec does not know or whose package is missing.
    """
    if is_local(uri):
        return fsspec.filesystem("file"), local_path(uri)
    scheme = _SCHEME.match(uri).group(1)  # type: ignore[union-attr]
    # A cached listing hides files that another process has written since.
    options = {"use_listings_cache": False} if scheme in ("s3", "s3a") else {}
    try:
        fs = fsspec.filesystem(scheme, **options)
    except (ValueError, ImportError) as error:
        raise DasError(f"{redact(uri)}: storage scheme '{scheme}' cannot be used here: {error}") from error
    return fs, fs._strip_protocol(uri)


def redact(uri: str) -> str:
    """``uri`` without a user:password part."""
    return re.sub(r"://[^/@]*@", "://", uri)


def join(uri: str, *parts: str) -> str:
    """``uri`` with path parts appended."""
    return "/".join([uri.rstrip("/") or "/", *parts])


def normalise(uri: str) -> str:
    """An absolute form of ``uri``, so that workers with another working directory find the same place."""
    return local_path(uri) if is_local(uri) else uri.rstrip("/")


@contextlib.contextmanager
def explain(uri: str) -> Iterator[None]:
    """Turns the many exceptions of storage clients into one sentence about ``uri``.

    A missing file stays a FileNotFoundError (callers know better what it means), a DasError passes.
    """
    place = redact(uri)
    try:
        yield
    except (DasError, pa.ArrowInvalid):
        raise
    except FileNotFoundError as error:
        if "bucket does not exist" in str(error).lower() or "NoSuchBucket" in str(error):
            raise DasError(f"{place}: the bucket does not exist; create it or correct the URI.") from error
        raise
    except PermissionError as error:
        raise DasError(
            f"{place}: access denied by the storage; check the credentials in the environment "
            f"(for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the rights on the path."
        ) from error
    except Exception as error:
        chain = _chain(error)
        names = {type(e).__name__ for e in chain}
        if names & {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"}:
            raise DasError(
                f"{place}: no storage credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error
        if names & _UNREACHABLE:
            raise DasError(
                f"{place}: the storage server cannot be reached; check AWS_ENDPOINT_URL, the network and the server."
            ) from error
        if isinstance(error, OSError) and not is_local(uri):
            raise DasError(f"{place}: the storage refused: {error}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise DasError(f"{place}: {error.strerror or error}.") from error
        raise


_UNREACHABLE = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "HTTPClientError",
    "ClientConnectorError",
    "ClientOSError",
    "ServerDisconnectedError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "ConnectionError",
    "ResponseParserError",
}


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def exists(uri: str) -> bool:
    """Whether there is a file or folder at ``uri``."""
    fs, path = filesystem(uri)
    with explain(uri):
        return bool(fs.exists(path))


def is_folder(uri: str) -> bool:
    """Whether ``uri`` is a folder (on object stores: a prefix with something below it)."""
    fs, path = filesystem(uri)
    with explain(uri):
        return bool(fs.isdir(path))


def list_files(uri: str) -> list[FileInfo]:
    """All files below the folder ``uri`` (or the one file it names), sorted by URI; a missing one gives none."""
    fs, path = filesystem(uri)
    try:
        with explain(uri):
            found = fs.find(path, detail=True)
    except FileNotFoundError:
        return []
    return _infos(fs, found)


def glob(uri: str) -> list[FileInfo]:
    """The files that match a pattern (``*``, ``?``, ``[…]``, ``**``), sorted by URI."""
    fs, path = filesystem(uri)
    with explain(uri):
        return _infos(fs, fs.glob(path, detail=True))


def _infos(fs: fsspec.AbstractFileSystem, found: dict[str, dict[str, Any]]) -> list[FileInfo]:
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    infos = []
    for path, info in found.items():
        if info["type"] == "directory":
            continue
        version = next((str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified") if key in info), "")
        uri = path if local else fs.unstrip_protocol(path)
        infos.append(FileInfo(uri, int(info.get("size") or 0), version.strip('"')))
    return sorted(infos, key=lambda f: f.uri)


def open_input(uri: str, scattered: bool = False) -> pa.NativeFile:
    """Opens a file for reading through Arrow (close it, or use ``with``).

    Args:
        uri: of the file.
        scattered: a few ranges are wanted, not the file from end to end: nothing is read ahead.

    Raises:
        FileNotFoundError, DasError: missing; out of reach.
    """
    if is_local(uri):
        with explain(uri):
            return pa.OSFile(local_path(uri), "rb")
    fs, path = filesystem(uri)
    with explain(uri):
        options = {"cache_type": "none"} if scattered else {}
        return pa.PythonFile(fs.open(path, "rb", **options), mode="r")


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """A file to write to; it appears under its name only when the block ends without an error."""
    fs, path = filesystem(uri)
    if is_local(uri):
        with explain(uri):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{uuid.uuid4().hex}.draft")
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


def drafted(path: str) -> str | None:
    """The file that ``path`` is an unfinished draft of, left by a killed :func:`open_output`; None for others."""
    return _DRAFT.sub(r"\1\2", path) if _DRAFT.fullmatch(path) else None


def read_bytes(uri: str) -> bytes:
    """The whole content of a small file."""
    fs, path = filesystem(uri)
    with explain(uri):
        return bytes(fs.cat_file(path))


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a whole file at once."""
    with open_output(uri) as file:
        file.write(content)


def read_json(uri: str) -> Any:
    """A JSON file's content.

    Raises:
        DasError: when it is no JSON.
    """
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise DasError(f"{redact(uri)}: not valid JSON ({error}).") from error


def write_json(uri: str, content: Any) -> None:
    """Writes JSON, indented and with a final newline."""
    write_bytes(uri, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def remove(uri: str) -> None:
    """Deletes a file or a whole folder; nothing happens when it is not there."""
    fs, path = filesystem(uri)
    with explain(uri), contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def sha256(uri: str) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open_input(uri) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
