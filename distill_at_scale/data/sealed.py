"""Sealed files, which no manifest lists: a 48-byte seal after the content detects any change to it.

Parts of unfinished work, caches and checkpoints are large and numerous, and most are read shortly after they were
written; hence the fast digest (:mod:`~distill_at_scale.data.digests`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import IO, cast

import pyarrow as pa

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.digests import DIGEST_BYTES, Content, Digest, read_digested
from distill_at_scale.errors import DamagedFileError

log = logging.getLogger(__name__)

_MAGIC = b"das-seal"
SEAL_BYTES = len(_MAGIC) + 8 + DIGEST_BYTES
"""Number of bytes that a seal adds to a file."""


class _Sealing:
    """A file wrapper that keeps the digest of everything written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, Digest()
        self.closed = False

    def write(self, content: Content) -> int:
        self.digest.update(content)
        self._file.write(cast(bytes, content))
        return memoryview(content).nbytes

    def tell(self) -> int:
        return self.digest.length

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """As :func:`storage.open_output`; the seal is appended when the block ends."""
    with storage.open_output(uri) as file:
        sealing = _Sealing(file)
        yield cast(IO[bytes], sealing)
        file.write(_MAGIC + sealing.digest.length.to_bytes(8, "little") + sealing.digest.value())


def write(uri: str, *content: Content) -> None:
    """Writes a whole file, from one or several pieces of its content, with its seal."""
    with open_output(uri) as file:
        for piece in content:
            file.write(cast(bytes, piece))


def read(uri: str, fix: str) -> pa.Buffer:
    """Reads the content of a sealed file, without the seal.

    Args:
        uri: Address of the file.
        fix: Remedy for a damaged file, as the end of a sentence.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    with recorded.missing_is_damage(uri, fix), storage.open_input(uri) as file:
        content, digest = read_digested(file, max(file.size() - SEAL_BYTES, 0))
        seal = file.read(SEAL_BYTES)
    if seal != _MAGIC + len(content).to_bytes(8, "little") + digest:
        raise DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
    return content


@contextlib.contextmanager
def open_input(uri: str, fix: str) -> Iterator[tuple[pa.NativeFile, int]]:
    """Opens a sealed file; yields it with the size of its content in bytes, which the seal follows.

    On its first use in a process the whole file is read, compared with its seal and served from memory. Later calls
    read only the requested ranges, provided that a local file's size and modification time are unchanged.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    known = recorded.is_verified(uri, _MAGIC.decode())
    if not known:
        stamp = recorded.stamp(uri)
        content = read(uri, fix)
        recorded.set_verified(uri, _MAGIC.decode(), stamp)
        yield pa.BufferReader(content), len(content)
        return
    with recorded.missing_is_damage(uri, fix), storage.open_input(uri, scattered=True) as file:
        yield file, file.size() - SEAL_BYTES


def check(uri: str, fix: str) -> None:
    """Compares a file with its seal without holding it in memory, unless this process has already verified it.

    Raises:
        DamagedFileError: The file is missing, truncated or altered.
    """
    if recorded.is_verified(uri, _MAGIC.decode()):
        return
    stamp = recorded.stamp(uri)
    with recorded.missing_is_damage(uri, fix), storage.open_input(uri) as file:
        digest, left = Digest(), file.size() - SEAL_BYTES
        while left > 0 and (piece := file.read_buffer(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        seal = file.read(SEAL_BYTES)
    if seal != _MAGIC + digest.length.to_bytes(8, "little") + digest.value():
        raise DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
    recorded.set_verified(uri, _MAGIC.decode(), stamp)


def is_sound(uri: str, what: str, then: str = "it is made again") -> bool:
    """Returns whether a file exists and is undamaged; a damaged file is removed, so that its owner makes it again.

    Args:
        uri: Address of the file.
        what: Content of the file, for the log message.
        then: Consequence of the damage, for the log message.
    """
    if not storage.exists(uri):
        return False
    try:
        check(uri, "")
    except DamagedFileError:
        log.warning("%s: this %s is damaged; %s.", storage.redact(uri), what, then)
        storage.remove(uri)
        return False
    return True
