"""Members of .zip and .tar archives as files: nothing is extracted, and a member's address is ``ARCHIVE!/MEMBER``.

A member is read as a stream. Tables need to be read in any order: those of plain .tar files and members that a .zip
holds uncompressed are read in place, others from memory if they are small.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from distill_at_scale.data.filesystems import FileInfo
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.uris import is_archive, redact, split_member

_CODECS: Final = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"))
_XZ: Final = b"\xfd7zXZ\x00"
# An archive that unpacks to more than this, and to more than this multiple of its size, is not read.
_MOST_UNPACKED, _MOST_RATIO = 1 << 30, 500
_MOST_MEMBERS: Final = 10_000
# Each member of a compressed .tar is reached by unpacking what lies before it.
_MOST_IN_STREAM: Final = 100
# Largest compressed table that is unpacked into memory.
_MOST_TABLE: Final = 256 << 20
_ENCRYPTED: Final = 1


Open = Callable[[str], pa.NativeFile]
"""Function that opens a file for reading."""


@dataclass(frozen=True)
class Members:
    """What an archive holds.

    Attributes:
        files: Its members that are files, sorted by address; sizes are unpacked ones, versions those of the archive.
        others: Number of members that are neither files nor folders, such as links.
    """

    files: list[FileInfo]
    others: int


def members(archive: FileInfo, open_file: Open) -> Members:
    """Lists the members of an archive.

    Raises:
        DasError: It is encrypted, holds an archive, has too many members, or unpacks to far more than its size.
        DamagedFileError: It is damaged.
    """
    place = redact(archive.uri)
    total = others = 0
    found: dict[str, int] = {}
    with _explained(archive.uri), open_file(archive.uri) as file:
        if _is_zip(file):
            entries = iter(()) if _is_empty_zip(file) else _zip_entries(zipfile.ZipFile(file), place)
            most = _MOST_MEMBERS
        else:
            stream, packed = _tar_stream(file)
            entries = _tar_entries(stream, packed)
            most = _MOST_IN_STREAM if packed else _MOST_MEMBERS
        for name, size in entries:
            if size is None:
                others += 1
                continue
            if is_archive(name) or name.lower().endswith((".7z", ".rar")):
                raise DasError(f"{place} holds another archive, {name}; unpack it, and pass the files in it.")
            total += size
            if total > max(_MOST_UNPACKED, _MOST_RATIO * archive.size):
                raise DasError(
                    f"{place} unpacks to more than {_MOST_RATIO} times its {archive.size:,} bytes, like "
                    "archives that are made to fill a disk; unpack it yourself if it is a log."
                )
            if name in found:
                raise DasError(f"{place} holds two members named {name}; unpack it, and pass the files.")
            found[name] = size
            if len(found) > most:
                raise DasError(f"{place} has more than {most:,} members; unpack it, and pass the folder.")
    files = [FileInfo(f"{archive.uri}!/{name}", size, archive.version) for name, size in found.items()]
    return Members(sorted(files, key=lambda info: info.uri), others)


def open_member(uri: str, scattered: bool, open_file: Open) -> pa.NativeFile:
    """Opens a member for reading (close it, or use ``with``).

    Args:
        uri: Address of the member.
        scattered: It is read in any order.
        open_file: Function that opens an archive.

    Raises:
        FileNotFoundError: The archive has no such member.
        DasError: A compressed table is too large to be read in any order.
    """
    archive, name = _split(uri)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explained(archive))
        file = stack.enter_context(open_file(archive))
        member, size, in_place = _opened(file, name, uri)
        if not scattered or in_place:
            stack.pop_all()
            return pa.PythonFile(_Member(member, file, archive, in_place), mode="r")
        if size > _MOST_TABLE:
            raise DasError(
                f"{redact(uri)}: a table of {size:,} bytes in a compressed archive is not read in place; "
                "unpack the archive, and pass the table."
            )
        return pa.BufferReader(member.read())


class _Member(io.RawIOBase):
    """A member's content, which closes the archive's file and explains damage."""

    def __init__(self, member: Any, file: Any, archive: str, in_place: bool) -> None:
        self._member, self._file, self._archive, self._in_place = member, file, archive, in_place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._in_place

    def tell(self) -> int:
        return int(self._member.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _explained(self._archive):
            return int(self._member.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        with _explained(self._archive):
            return bytes(self._member.read() if size is None or size < 0 else self._member.read(size))

    def close(self) -> None:
        if not self.closed:
            self._member.close()
            self._file.close()
        super().close()


def _split(uri: str) -> tuple[str, str]:
    found = split_member(uri)
    assert found is not None
    return found


def _is_zip(file: pa.NativeFile) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic in (b"PK\x03\x04", b"PK\x05\x06")


def _is_empty_zip(file: pa.NativeFile) -> bool:
    """Whether a .zip is only the record at its end; zipfile would seek before its beginning."""
    magic = file.read(4)
    file.seek(0)
    return magic == b"PK\x05\x06" and file.size() == 22


def _opened(file: pa.NativeFile, name: str, uri: str) -> tuple[Any, int, bool]:
    """Returns a member's content, its size, and whether it can be read in any order."""
    if _is_zip(file):
        archive = zipfile.ZipFile(file)
        try:
            entry = archive.getinfo(name)
        except KeyError:
            raise FileNotFoundError(uri) from None
        return archive.open(entry), entry.file_size, entry.compress_type == zipfile.ZIP_STORED
    stream, packed = _tar_stream(file)
    tar = tarfile.open(fileobj=stream, mode="r|" if packed else "r:")  # noqa: SIM115 (the member reads from it)
    for member in tar:
        if member.name == name and member.isfile() and (content := tar.extractfile(member)) is not None:
            return content, member.size, not packed
    raise FileNotFoundError(uri)


def _zip_entries(archive: zipfile.ZipFile, place: str) -> Iterator[tuple[str, int | None]]:
    for entry in archive.infolist():
        if entry.flag_bits & _ENCRYPTED:
            raise DasError(f"{place}: the archive is encrypted; unpack it with its password, and pass the files.")
        if not entry.is_dir():
            link = (entry.external_attr >> 28) == 0o12
            yield entry.filename, None if link else entry.file_size


def _tar_entries(stream: Any, packed: bool) -> Iterator[tuple[str, int | None]]:
    with tarfile.open(fileobj=stream, mode="r|" if packed else "r:") as tar:
        for member in tar:
            if not member.isdir():
                yield member.name, member.size if member.isfile() else None
    # The checksum of a compression is behind all it holds.
    while packed and stream.read(1 << 20):
        pass


def _tar_stream(file: pa.NativeFile) -> tuple[Any, bool]:
    """Returns the unpacked content of a .tar file, and whether it was compressed."""
    start = file.read(8)
    file.seek(0)
    if start.startswith(_XZ):
        return lzma.LZMAFile(file), True
    codec = next((codec for magic, codec in _CODECS if start.startswith(magic)), None)
    return (file, False) if codec is None else (pa.CompressedInputStream(file, codec), True)


@contextlib.contextmanager
def _explained(archive: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, pa.ArrowInvalid) as error:
        raise DamagedFileError(_damaged(archive, error)) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise  # of the storage
        raise DamagedFileError(_damaged(archive, error)) from error
    except NotImplementedError as error:
        raise DasError(
            f"{redact(archive)}: the archive uses a compression that is not read ({error}); unpack it, and "
            "pass the files."
        ) from error


def _damaged(archive: str, error: Exception) -> str:
    return f"{redact(archive)}: the archive is damaged or truncated ({error}); fetch it again."
