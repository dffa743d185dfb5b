"""Quotes in lines of fields: which lines belong together, and which quotes are no quotes at all.

A quoted field may hold line ends. A quote that is never closed would take every line up to the next quote into its
field, and two of them make one row out of two and lose those between. So a record of several lines is believed only
where it comes apart exactly, and where its lines are no rows by themselves.
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
"""Bytes; a quote that is not closed within them is a stray one (also the longest field of Python's own parser)."""
_NUMBER: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")


@dataclass(frozen=True)
class Records:
    """The lines of a block, and what they are.

    Attributes:
        end: bytes of the data that these lines take up.
        starts: int64 [n], first byte of each line.
        ends: int64 [n], where its text ends (its line end is behind).
        spans: (first line, last line) of each record of several lines.
        stray: lines with a quote that is never closed.
    """

    end: int
    starts: np.ndarray
    ends: np.ndarray
    spans: list[tuple[int, int]]
    stray: list[int]


class Quoting:
    """How lines of fields are quoted.

    Args:
        delimiter: between two fields.
        quote: how far a quoted field reaches.
        width: fields of a row; 0 where it is not known.
        numbers: positions of fields that hold numbers.
    """

    def __init__(self, delimiter: str, quote: Quote, width: int, numbers: Sequence[int] = ()) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.width = width
        self.numbers = numbers

    @classmethod
    def of(cls, fragment: Fragment, schema: LogSchema) -> Quoting:
        """That of a fragment, read by ``schema``."""
        kinds = {**schema.text_types, **{c: "int" for c, kind in schema.id_types.items() if kind == "int64"}}
        numbers = [
            fragment.names.index(name)
            for canonical, name in schema.columns.items()
            if kinds.get(canonical) in ("int", "float") and name in fragment.names
        ]
        return cls(fragment.delimiter or ",", fragment.quote, len(fragment.names), numbers)

    def end(self, data: bytes) -> int:
        """How many bytes of ``data`` are whole records; what is behind may go on in the bytes that follow."""
        if self.quote != "record" or b'"' not in data:
            return data.rfind(b"\n") + 1
        return self._split(data, final=False).end

    def split(self, block: bytes) -> Records:
        """The records of a block that ends where one does."""
        return self._split(block, final=True)

    def _split(self, data: bytes, final: bool) -> Records:
        array = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(array == ord("\n"))
        if final and not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        quotes = np.bincount(np.searchsorted(ends, np.flatnonzero(array == ord('"'))), minlength=len(ends) + 1)
        # Quotes of a line that does not end here tell nothing yet.
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
        """The fields of all lines and records that come apart, for a look at the first of a file."""
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
        """The fields of one record, its quotes taken off; None where a quote is not closed."""
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
        """Whether a quoted field goes on behind the line's end."""
        return self.fields(line) is None

    def _is_record(self, text: str) -> bool:
        """Whether several lines are one record, and not rows between two stray quotes."""
        lines = text.split("\n")
        inner = [line for line in lines[1:-1] if line.strip()]
        # A line of a text with as many fields as a row is no rarity; one with numbers in their places is.
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


def closes_on_lines(lines: Sequence[str], delimiter: str) -> bool:
    """Whether fields are quoted in these lines, each closed on its own line: then quotes are quotes."""
    quoted = [line for line in lines if f'{delimiter}"' in f"{delimiter}{line}"]
    for line in quoted:
        try:
            list(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            return False
    return bool(quoted)
