"""Quoting in delimited text: which lines form one record, and which quotes are plain characters.

A quoted field may contain line ends. A quote that is never closed would absorb every line up to the next quote, and
two of them would merge two rows and lose the rows between. A multi-line record is therefore accepted only if it
parses exactly and its lines are not rows by themselves.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from distill_at_scale.data.readers.schema import Fragment, LogSchema, Quote

MAX_RECORD: Final = 1 << 17
"""Maximum bytes of a record; a quote not closed within them is stray (also the longest field of Python's parser)."""
_NUMBER: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")


@dataclass(frozen=True)
class Records:
    """The lines of a block, grouped into records.

    Attributes:
        end: Number of bytes that these lines occupy.
        starts: int64 [n], first byte of each line.
        ends: int64 [n], end of each line's text, before its line end.
        spans: (first line, last line) of each multi-line record.
        stray: Lines with a quote that is never closed.
    """

    end: int
    starts: np.ndarray
    ends: np.ndarray
    spans: list[tuple[int, int]]
    stray: list[int]


class Quoting:
    """Quoting rules of a delimited file.

    Args:
        delimiter: Delimiter between fields.
        quote: Extent of a quoted field.
        width: Number of fields per row; 0 if unknown.
        numbers: Positions of numeric fields.
    """

    def __init__(self, delimiter: str, quote: Quote, width: int, numbers: Sequence[int] = ()) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.width = width
        self.numbers = numbers

    @classmethod
    def of(cls, fragment: Fragment, schema: LogSchema) -> Quoting:
        """Returns the rules for a fragment that is read with ``schema``."""
        kinds = {**schema.text_types, **{c: "int" for c, kind in schema.id_types.items() if kind == "int64"}}
        numbers = [
            fragment.names.index(name)
            for canonical, name in schema.columns.items()
            if kinds.get(canonical) in ("int", "float") and name in fragment.names
        ]
        return cls(fragment.delimiter or ",", fragment.quote, len(fragment.names), numbers)

    def end(self, data: bytes) -> int:
        """Returns the number of bytes of ``data`` that are whole records; the rest may continue in the following
        bytes."""
        if self.quote != "record" or b'"' not in data:
            return data.rfind(b"\n") + 1
        return self._split(data, final=False).end

    def split(self, block: bytes) -> Records:
        """Divides a block that ends at the end of a record."""
        return self._split(block, final=True)

    def _split(self, data: bytes, final: bool) -> Records:
        array = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(array == ord("\n"))
        if final and not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        quotes = np.bincount(np.searchsorted(ends, np.flatnonzero(array == ord('"'))), minlength=len(ends) + 1)
        # The quotes of an unfinished line are not yet conclusive.
        odd = np.flatnonzero(quotes[: len(ends)] % 2).tolist()
        spans: list[tuple[int, int]] = []
        stray: list[int] = []
        n_lines = len(ends)
        k = 0
        while k < len(odd):
            first = odd[k]
            k += 1
            start = int(starts[first])
            if not self.is_open(data[start : int(ends[first])].decode(errors="replace")):
                continue
            if self.quote != "record":
                stray.append(first)
            elif k < len(odd):
                last = odd[k]
                if int(ends[last]) - start <= MAX_RECORD and self._is_record(
                    data[start : int(ends[last])].decode(errors="replace")
                ):
                    spans.append((first, last))
                    k += 1
                else:
                    stray.append(first)
            elif final or len(data) - start > MAX_RECORD:
                stray.append(first)
            else:
                n_lines = first
        end = len(data) if final else int(ends[n_lines - 1]) + 1 if n_lines else 0
        return Records(end, starts[:n_lines], ends[:n_lines], spans, stray)

    def rows(self, block: bytes) -> list[list[str]]:
        """Parses all well-formed lines and records, for inspecting the first ones of a file."""
        records = self.split(block)
        ends = dict(records.spans)
        inside = {line for first, last in records.spans for line in range(first + 1, last + 1)}
        texts = [
            block[int(records.starts[k]) : int(records.ends[ends.get(k, k)])].decode()
            for k in range(len(records.starts))
            if k not in inside
        ]
        return [fields for text in texts if text.strip("\r") and (fields := self.fields(text)) is not None]

    def fields(self, line: str) -> list[str] | None:
        """Parses one record into fields without their quotes; None if a quote is not closed."""
        if self.quote == "none":
            return line.rstrip("\r\n").split(self.delimiter)
        lines = iter([*(part + "\n" for part in line.rstrip("\r\n").split("\n")), ""])
        given = line.count("\n") + 1
        reader = csv.reader(lines, delimiter=self.delimiter)
        try:
            fields = next(reader)
        except csv.Error:
            return None
        return fields if reader.line_num <= given else None

    def is_open(self, line: str) -> bool:
        """Returns whether a quoted field continues after the end of the line."""
        return self.fields(line) is None

    def _is_record(self, text: str) -> bool:
        """Returns whether several lines form one record rather than rows between two stray quotes."""
        lines = text.split("\n")
        inner = [line for line in lines[1:-1] if line.strip()]
        # Text often has lines with as many fields as a row, but rarely with numbers in the numeric fields.
        enough = any if self.numbers else all
        if inner and enough(self._is_row(self.fields(line)) for line in inner):
            return False
        if all(line.count(self.delimiter) + 1 == self.width for line in lines):
            return False
        try:
            parsed = list(csv.reader((f"{line}\n" for line in lines), delimiter=self.delimiter, strict=True))
        except csv.Error:
            return False
        return len(parsed) == 1 and (not self.width or len(parsed[0]) == self.width)

    def _is_row(self, fields: Sequence[str] | None) -> bool:
        if fields is None or len(fields) != self.width:
            return False
        return all(_NUMBER.fullmatch(fields[position]) for position in self.numbers)


def header_in_quotes(line: str, delimiter: str) -> bool:
    """Returns whether every field of a first line is in quotes, as programs write names when they quote all text."""
    fields = line.rstrip("\r\n").split(delimiter)
    return len(fields) > 1 and all(len(field) > 2 and field[0] == field[-1] == '"' for field in fields)


def closes_on_lines(lines: Sequence[str], delimiter: str) -> bool:
    """Returns whether these lines have quoted fields, all closed on their own line, so that quotes act as quotes."""
    quoted = [line for line in lines if f'{delimiter}"' in f"{delimiter}{line}"]
    for line in quoted:
        try:
            list(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            return False
    return bool(quoted)
