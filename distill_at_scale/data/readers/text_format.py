"""Formats of text: lines, compressed or not, read in blocks."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.log_format import LogFormat
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.repeated import RepeatedHeader
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.selection import select_rows
from distill_at_scale.data.readers.table_rows import add_partitions
from distill_at_scale.data.readers.tail import LastLine
from distill_at_scale.data.readers.text import (
    BLOCK_BYTES,
    BOM,
    LONG_HEAD_BYTES,
    Block,
    TextHead,
    blocks,
    check_utf8,
    read_start,
    read_text_head,
    whole_lines,
)
from distill_at_scale.data.readers.time_watch import notice_zones
from distill_at_scale.data.row_validation import broken_lines, notice_rows, validate_rows
from distill_at_scale.errors import DasError

SAMPLE_LINES: Final = 1000


class TextFormat(LogFormat):
    """A format of text. Compression, blocks, encodings and cut-off lines are dealt with here, whatever the format."""

    block_bytes: ClassVar[int] = BLOCK_BYTES
    """Number of bytes that are parsed at a time."""

    quotes: ClassVar[bool] = False
    """Whether fields may be in quotes."""

    def begins(self, head: TextHead, lines: Sequence[str]) -> bool:
        """Returns whether the first characters alone show that a text is of this format."""
        return False

    def fits(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
        """Returns whether the first lines suit the format; asked where nothing else decides."""
        return False

    @abstractmethod
    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Determines the columns and their first values.

        Args:
            head: First bytes of the file.
            lines: First non-empty lines, without line ends.
            options: Reader options.

        Raises:
            DasError: The lines are not of this format.
        """

    @abstractmethod
    def parse(self, block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
        """Parses one block of whole lines."""

    def head(self, file: storage.FileInfo, start: bytes, options: LogOptions) -> TextLayout | None:
        """Decompresses the first bytes and determines the layout of their lines."""
        read = first_lines(file, start)
        return None if read is None else self.layout(*read, options)

    def rows_per_line(self, layout: TextLayout) -> float:
        """Returns the mean number of rows of a line."""
        return 1.0

    def whole(self, fragment: Fragment, schema: LogSchema) -> Callable[[bytes], int]:
        """Returns a function that says how many of some bytes are whole records."""
        return whole_lines

    def plan(
        self, head: Head, fragment_bytes: int, partitions: Mapping[str, str | None], rows_per_row: float
    ) -> list[Fragment]:
        """Divides a file into byte ranges; a compressed one stays whole."""
        assert isinstance(head, TextLayout)
        text = head.head
        start = text.offset + head.header_bytes
        body = text.text.encode()[head.header_bytes :]
        lines = body.count(b"\n") + (not body.endswith(b"\n"))
        if text.complete and not body.strip():
            return []
        row_bytes = max(1.0, len(body) / max(1, lines) / self.rows_per_line(head))

        def fragment(begin: int, end: int | None, size: int, first_row: int | None) -> Fragment:
            return Fragment(
                uri=text.file.uri,
                format=head.format,
                version=text.file.version,
                rows=max(1, round(size * text.ratio / row_bytes)),
                bytes=size,
                first_row=first_row,
                start=begin,
                end=end,
                names=() if self.keyed else head.names,
                delimiter=head.delimiter,
                compression=text.compression,
                partitions=dict(partitions),
                quote=head.quote,
                header=head.header_line,
            )

        total = text.file.size
        first_line = text.text.encode()[: head.header_bytes].count(b"\n") + 1
        # A line end within quotes does not end a row, so files with quoted fields are not divided.
        # A member of an archive is read from its beginning.
        if (
            text.compression
            or text.returns
            or storage.is_member(text.file.uri)
            or (head.quote == "record" and b'"' in body)
        ):
            return [fragment(start, None, total, first_line)]
        cuts = [start, *range(start + fragment_bytes, total - fragment_bytes // 2, fragment_bytes), total]
        return [
            fragment(begin, None if end == total else end, end - begin, first_line if begin == start else None)
            for begin, end in itertools.pairwise(cuts)
        ]

    def read(self, fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
        """Reads a byte range in blocks of whole lines."""
        return _read(fragment, schema, self)


def first_lines(file: storage.FileInfo, start: bytes) -> tuple[TextHead, list[str]] | None:
    """Returns the head of a text file and its first non-empty lines, without line ends; None if it has none.

    Raises:
        DasError: The file is binary or damaged, or its first line has no end.
    """
    head = read_text_head(file, start)
    if not head.has_line:
        head = read_text_head(file, read_start(file, LONG_HEAD_BYTES))
    lines = [line.rstrip("\r") for line in head.text.split("\n") if line.strip()][: SAMPLE_LINES + 1]
    if lines:
        return head, lines
    if head.text or head.complete:
        return None
    raise DasError(f"{head.name}: the first line is too long for a header; name the format with --format.")


def _read(fragment: Fragment, schema: LogSchema, format: TextFormat) -> Iterator[Batch]:
    """Reads a fragment in the format's blocks; every line is a good row, a bad one, or counted as left out."""
    source = storage.redact(fragment.uri)
    # Partition columns are not columns of the lines.
    own = {c: name for c, name in schema.columns.items() if name not in fragment.partitions}
    extra = {c: name for c, name in schema.extra.items() if name not in fragment.partitions}
    lines_schema = schema.model_copy(update={"columns": own, "extra": extra}) if fragment.partitions else schema
    header = RepeatedHeader(fragment, lines_schema, source)
    tail = LastLine(fragment, lines_schema, source, format.keyed)
    for block in blocks(fragment, format.whole(fragment, lines_schema), format.block_bytes):
        if block.data.isspace():
            continue
        check_utf8(block.data, fragment.uri, block.line)
        data, odd = _plain_text(block)
        if block.unfinished:
            data, cut = tail.cut_off(data)
        else:
            tail.remember(data)
            cut = None
        parsed = header.drop(format.parse(data, fragment, lines_schema), block.line)
        raw = add_partitions(parsed.raw, fragment, schema)
        asked = select_rows(raw, schema.conditions)
        at_rows = 0 if asked.kept is None else asked.kept
        good, bad = validate_rows(asked.raw, schema.id_types, schema.times, source, at_rows)
        if bad.height or parsed.broken:
            rows, broken = parsed.numbers() if block.line is not None else (None, None)
            offset = block.line or 0
            at = None if rows is None else rows[bad["row"].to_numpy()] + offset
            bad = bad.with_columns(_numbers(at, bad.height))
            lines = broken_lines(
                parsed.broken,
                parsed.reasons,
                source,
                _numbers(None if broken is None else broken + offset, len(parsed.broken)),
            )
            bad = pl.concat([bad, lines])
        if cut:
            number = None if block.line is None else [block.line + data.count(b"\n")]
            at_end = _numbers(None if number is None else np.array(number), 1)
            bad = pl.concat([bad, broken_lines([cut.line], [cut.reason], source, at_end)])
        zones = notice_zones(asked.raw, schema)
        notices = merge((odd, tail.noticed(block.unfinished), parsed.noticed, asked.noticed, zones, notice_rows(good)))
        yield Batch(good, bad, tuple(notices), asked.left_out, asked.seen)


def _plain_text(block: Block) -> tuple[bytes, list[Notice]]:
    """Removes what concatenating files leaves in the lines; returns the lines and notices."""
    noticed = []
    if block.returns:
        what = "a carriage return alone (the line end of old Macs) is read as a line end"
        noticed.append(Notice(what=what, count=block.returns, unit="line"))
    data = block.data
    marks = data.count(BOM) if BOM in data else 0
    if marks:
        data = data.removeprefix(BOM).replace(b"\n" + BOM, b"\n")
        marks -= data.count(BOM)
    if marks:
        what = "a byte order mark inside the file (from concatenated files?) is left out"
        noticed.append(Notice(what=what, count=marks, unit="line"))
    return data, noticed


def _numbers(values: np.ndarray | None, size: int) -> pl.Series:
    return pl.Series("row", [None] * size if values is None else values, dtype=pl.Int64)
