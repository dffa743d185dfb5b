"""Files that no manifest lists, sealed: 48 bytes behind their content tell whether a bit of it has changed.

Parts of unfinished work, caches and checkpoints are many and large, and most are read a moment after they were written;
hence a fast digest (:mod:`~distill_at_scale.data.digests`).
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
"""what a seal adds to a file"""


class _Sealing:
    """A file that remembers the digest of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, Digest()
        self.closed = False

    def write(self, content: Content) -> int:
        self.digest.update(content)
        self._file.write(cast(bytes, content))
        return memoryview(content).nbytes

    def on_progress(self) -> int:
        return self.digest.length

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """As :func:`storage.open_output`; the file gets its seal when the block ends."""
    with storage.open_output(uri) as file:
        sealing = _Sealing(file)
        yield cast(IO[bytes], sealing)
        file.write(_MAGIC + sealing.digest.length.to_bytes(8, "little") + sealing.digest.value())


def write(uri: str, content: Content) -> None:
    """Writes a whole file and its seal."""
    with open_output(uri) as file:
        file.write(cast(bytes, content))


def read(uri: str, fix: str) -> pa.Buffer:
    """What was written, without the seal.

    Args:
        uri: of the file.
        fix: what to do where it is damaged; the end of a sentence.

    Raises:
        DamagedFileError: missing, truncated or altered.
    """
    with recorded.missing_is_damage(uri, fix), storage.open_input(uri) as file:
        content, digest = read_digested(file, max(file.size() - SEAL_BYTES, 0))
        seal = file.read(SEAL_BYTES)
    if seal != _MAGIC + len(content).to_bytes(8, "little") + digest:
        raise DamagedFileError(f"{storage.redact(uri)} differs from its checksum; {fix}.")
    return content


@contextlib.contextmanager
def open_input(uri: str, fix: str) -> Iterator[tuple[pa.NativeFile, int]]:
    """A sealed file, and the bytes of its content; the seal lies behind them.

    The first time in a process the whole file is read, compared with its seal and served from memory; after that only
    what is asked for is read, as long as a local file's size and time stay the same.

    Raises:
        DamagedFileError: missing, truncated or altered.
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
    """Compares a file with its seal without holding it, unless this process has done so before.

    Raises:
        DamagedFileError: missing, truncated or altered.
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
    """Whether a file is there and undamaged; one that is damaged is removed, for its owner to make it again.

    Args:
        uri: of the file.
        what: it holds, for the message that says so.
        then: what becomes of it, likewise.
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
