"""Bytes of text files, compressed or not: heads for the driver, blocks of whole lines for the workers."""

from __future__ import annotations

import contextlib
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.readers.recognise import is_binary, refuse_binary, refuse_foreign
from distill_at_scale.data.readers.schema import Compression, Fragment
from distill_at_scale.errors import DasError

HEAD_BYTES: Final = 1 << 16
# If the first line is longer than HEAD_BYTES, this many bytes are read.
LONG_HEAD_BYTES: Final = 1 << 22
BLOCK_BYTES: Final = 8 << 20
_MAX_LINE: Final = 256 << 20
BOM: Final = b"\xef\xbb\xbf"
_RETURN: Final = re.compile(rb"\r(?!\n)")
_MAGIC: Final[dict[bytes, Compression]] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}
_UNPACKERS: Final[dict[Compression, str]] = {
    "gzip": "gzip -dc",
    "zstd": "zstd -dc",
    "bz2": "bzip2 -dc",
    "xz": "xz -dc",
    "lz4": "lz4 -dc",
}
_BZIP2: Final = re.compile(rb"BZh[1-9]1AY&SY")
_UNPACKING: Final = re.compile("compress|zlib|zstd|bz2|lz4|end-of-stream|corrupt", re.IGNORECASE)


@dataclass(frozen=True)
class TextHead:
    """The first bytes of a text file, decompressed and without a byte order mark.

    Attributes:
        file: The file.
        compression: Its compression.
        text: First lines, only whole ones (if ``complete``, including a last line without a line end).
        complete: Whether ``text`` is the whole file.
        has_line: Whether the first line is whole.
        offset: Number of bytes of the byte order mark before ``text``.
        returns: Whether lines end in a carriage return alone.
        ratio: Decompressed bytes per byte on storage.
    """

    file: storage.FileInfo
    compression: Compression | None
    text: str
    complete: bool
    has_line: bool
    offset: int
    ratio: float
    returns: bool = False

    @property
    def name(self) -> str:
        """File name for messages."""
        return storage.redact(self.file.uri)


def read_start(file: storage.FileInfo, size: int) -> bytes:
    """Reads the first ``size`` bytes as stored.

    Raises:
        DasError: The file is missing or unreachable.
    """
    with explain_text(file.uri):
        return storage.read_range(file.uri, 0, min(file.size, size))


def read_text_head(file: storage.FileInfo, raw: bytes) -> TextHead:
    """Decompresses and checks the first bytes of a text file.

    Raises:
        DasError: The compression is not supported, or the file is truncated, binary or not UTF-8.
    """
    name = storage.redact(file.uri)
    compression = _compression(raw)
    whole = len(raw) >= file.size
    data, used = raw, len(raw)
    if compression is not None:
        data, whole = _unpack(raw, compression, whole, name)
    ratio = len(data) / max(used, 1)
    if compression is not None:
        _refuse_packed_twice(name, compression, data)
    refuse_foreign(name, data, packed=compression is not None)
    if b"\x00" in data:
        refuse_binary(name, data)
    offset = len(BOM) if data.startswith(BOM) else 0
    # It is not yet known whether a carriage return at the very end ends a line.
    data, returns = line_feeds(data[offset:] if whole else data[offset:].removesuffix(b"\r"))
    has_line = whole or b"\n" in data
    if not whole:
        end = data.rfind(b"\n") + 1
        if not end:
            # The fields of the first line are unknown then, but a sequence of items may be this long.
            end = max(data.rfind(b" "), data.rfind(b"\t")) + 1
        data = data[:end]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_binary(data):
            refuse_binary(name, data)
        raise DasError(_not_utf8(name, data.count(b"\n", 0, error.start) + 1)) from error
    return TextHead(file, compression, text, whole, has_line, offset, ratio, returns > 0)


def _compression(raw: bytes) -> Compression | None:
    """Detects a file's compression by its first bytes."""
    if _BZIP2.match(raw):
        return "bz2"
    return next((codec for magic, codec in _MAGIC.items() if raw.startswith(magic)), None)


def _refuse_packed_twice(name: str, outer: Compression, data: bytes) -> None:
    inner = _compression(data)
    if inner is not None:
        raise DasError(
            f"{name}: the file is compressed twice ({inner} within {outer}); remove one layer, e.g. with "
            f"`{_UNPACKERS[outer]} < FILE > {inner}-FILE`, and pass the result."
        )


def _unpack(raw: bytes, compression: Compression, whole: bool, name: str) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    try:
        with unpacked(pa.BufferReader(raw), compression) as stream:
            while sum(map(len, parts)) < 4 * len(raw):
                part = stream.read(1 << 14)
                if not part:
                    return b"".join(parts), True
                parts.append(part)
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        # The head of a larger file is always truncated; only its beginning must be intact.
        if whole or not parts:
            raise DasError(_cut_off(name, compression)) from error
    return b"".join(parts), False


def unpacked(file: Any, compression: Compression | None) -> Any:
    """Opens the decompressed content of an open file from its beginning (close it, or use ``with``)."""
    if compression is None:
        return file
    if compression == "xz":
        return lzma.LZMAFile(file)
    return pa.CompressedInputStream(file, compression)


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Attributes:
        data: The lines; every line ends in a line feed, possibly after a carriage return.
        line: Number of the first line in the file (from 1), None if unknown.
        returns: Number of lines that ended in a carriage return alone.
        unfinished: Whether the last line is the last of the file and has no line end.
    """

    data: bytes
    line: int | None
    returns: int
    unfinished: bool


def whole_lines(data: bytes) -> int:
    """Returns the number of bytes of ``data`` that are whole lines."""
    return data.rfind(b"\n") + 1


def blocks(fragment: Fragment, whole: Callable[[bytes], int] = whole_lines, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yields whole lines of a fragment, about ``size`` bytes at a time.

    Args:
        fragment: Text file or byte range of one; a range holds the lines that begin in it.
        whole: Function that returns how many of the bytes read so far are whole records; a record may span lines.
        size: Number of bytes read at a time.

    Raises:
        DasError: The file is missing, or its compressed stream is truncated or damaged.
    """
    line = fragment.first_row
    carry = b""
    returns = 0
    for chunk in _chunks(fragment, size):
        # Whether a carriage return ends a line depends on the next byte.
        carry, last = (carry + chunk[:-1], chunk[-1:]) if chunk.endswith(b"\r") else (carry + chunk, b"")
        carry, replaced = line_feeds(carry)
        returns += replaced
        end = whole(carry)
        if end:
            yield Block(carry[:end], line, returns, False)
            if line is not None:
                line += int(np.count_nonzero(np.frombuffer(carry[:end], dtype=np.uint8) == ord("\n")))
            carry, returns = carry[end:] + last, 0
            continue
        carry += last
        if len(carry) > _MAX_LINE:
            raise DasError(
                f"{storage.redact(fragment.uri)}: a line is longer than {_MAX_LINE >> 20} MiB; "
                f"this is not a log in the format {fragment.format} (--format names another)."
            )
    if carry:
        carry, replaced = line_feeds(carry)
        yield Block(carry, line, returns + replaced, not carry.endswith(b"\n"))


def line_feeds(data: bytes) -> tuple[bytes, int]:
    """Replaces lone carriage returns (the line end of old Macs) with line feeds; returns the data and their number."""
    alone = data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0
    return (_RETURN.sub(b"\n", data), alone) if alone else (data, 0)


def _chunks(fragment: Fragment, size: int) -> Iterator[bytes]:
    """Yields exactly the fragment's bytes: from the beginning of its first line to the end of its last."""
    with explain_text(fragment.uri, fragment.compression), storage.open_input(fragment.uri) as file:
        stream = unpacked(file, fragment.compression)
        position = fragment.start
        chunk = b""
        if fragment.first_row is not None:
            # A member of a compressed archive cannot be read but from its beginning.
            if fragment.compression or storage.is_member(fragment.uri):
                stream.read(position)
            else:
                stream.seek(position)
        else:
            # The byte before `start` tells whether a line begins there; if not, that line belongs to the previous
            # range.
            position -= 1
            stream.seek(position)
            while True:
                chunk = stream.read(size)
                line_end = chunk.find(b"\n")
                if line_end >= 0:
                    position += line_end + 1
                    chunk = chunk[line_end + 1 :]
                    break
                position += len(chunk)
                if not chunk or (fragment.end is not None and position >= fragment.end):
                    return
            if fragment.end is not None and position >= fragment.end:
                return
        while chunk := chunk or stream.read(size):
            if fragment.end is not None and position + len(chunk) >= fragment.end:
                last = chunk.find(b"\n", max(0, fragment.end - 1 - position))
                if last >= 0:
                    yield chunk[: last + 1]
                    return
            yield chunk
            position += len(chunk)
            chunk = b""


@contextlib.contextmanager
def explain_text(uri: str, compression: str | None = None) -> Iterator[None]:
    """Turns the errors of a damaged, missing or unreachable text file into one sentence."""
    name = storage.redact(uri)
    try:
        with storage.explain(uri):
            try:
                yield
            except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
                if compression and _UNPACKING.search(str(error)):
                    raise DasError(_cut_off(name, compression)) from error
                raise
    except FileNotFoundError as error:
        raise DasError(f"{name}: the file no longer exists.") from error
    except (OSError, pa.ArrowException) as error:
        raise DasError(f"{name}: reading failed: {error}") from error


def check_utf8(block: bytes, uri: str, first_line: int | None) -> None:
    """Rejects text that is not UTF-8: Arrow's parsers check it only in part, and Polars relies on it.

    Raises:
        DasError: Names the file, and the line if known.
    """
    if block.isascii():
        return
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = None if first_line is None else first_line + block.count(b"\n", 0, error.start)
        raise DasError(_not_utf8(storage.redact(uri), line)) from error


def _not_utf8(name: str, line: int | None) -> str:
    where = "" if line is None else f" (line {line})"
    return (
        f"{name}: the text is not valid UTF-8{where}; convert it first, with `iconv -f ENCODING -t UTF-8 FILE > TEXT` "
        f"(the encoding of the program that wrote it, such as LATIN1, GB18030 or SHIFT_JIS)."
    )


def _cut_off(name: str, compression: str) -> str:
    return f"{name}: the {compression} stream is truncated or damaged; fetch or compress the file again."
