"""Detects whether a text file was truncated within its last line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.schema import Fragment, LogSchema

# Number of preceding lines that the last line is compared with.
_COMPARED: Final = 1000
# Times of this century have at least this many digits; shorter numbers may vary in length.
_TIME_DIGITS: Final = 8
# Ids of equal length are only evidence if they are numerous and long.
_IDS_COMPARED, _ID_LENGTH = 20, 4
_NO_END: Final = "the last line has no line end; if the file was cut off there, rows are missing"


@dataclass(frozen=True)
class CutLine:
    """A truncated last line, with the reason."""

    line: str
    reason: str


class LastLine:
    """Compares a file's last line, if it has no line end, with the lines before it.

    A time such as ``16``, truncated from ``1600000000``, is a valid number. It is detected because it is shorter than
    all times before it and ends the file.

    Args:
        fragment: Fragment of lines.
        schema: Schema with which the log is read.
        source: File name for the notice.
    """

    def __init__(self, fragment: Fragment, schema: LogSchema, source: str, keyed: bool) -> None:
        self._source = source
        self._keyed = keyed
        self._quoted = fragment.quote != "none"
        self._delimiter = (fragment.delimiter or ",").encode()
        roles = {name: canonical for canonical, name in schema.columns.items()}
        self._role = roles.get(fragment.names[-1]) if fragment.names else None
        self._width = len(fragment.names)
        self._before: list[bytes] = []

    def remember(self, data: bytes) -> None:
        """Keeps the last lines of a block, in case the file's last line is a block of its own."""
        if self._role:
            self._before = data[-(1 << 16) :].split(b"\n")[1:-1][-_COMPARED:]

    def cut_off(self, data: bytes) -> tuple[bytes, CutLine | None]:
        """Splits a file's last block, if it has no line end, into readable data and a truncated last line, if any."""
        start = data.rfind(b"\n") + 1
        last = data[start:]
        # A quoted field at the end of a file is either closed or already known to be malformed.
        if self._role is None or (self._quoted and b'"' in last):
            return data, None
        if last.count(self._delimiter) + 1 != self._width:
            # A line with missing fields is detected as malformed anyway.
            return data, None
        lines = data[max(0, start - (1 << 16)) : start].split(b"\n")[:-1][-_COMPARED:] or self._before
        ends = [line.rstrip(b"\r").rsplit(self._delimiter, 1)[-1].strip() for line in lines if self._delimiter in line]
        value = last.rstrip(b"\r").rsplit(self._delimiter, 1)[-1].strip()
        if not value or not ends or not self._is_shorter(value, ends):
            return data, None
        reason = f"last line of the file is cut off: no line end, and {self._role} is shorter than in the lines before"
        return data[:start], CutLine(last.decode(), reason)

    def _is_shorter(self, value: bytes, others: list[bytes]) -> bool:
        lengths = set(map(len, others))
        if len(value) >= min(lengths):
            return False
        if self._role == Columns.TIMESTAMP:
            return min(lengths) >= _TIME_DIGITS
        if self._role == Columns.RATING:
            return all(b"." in other for other in others)
        return len(others) >= _IDS_COMPARED and len(lengths) == 1 and min(lengths) >= _ID_LENGTH

    def noticed(self, unfinished: bool) -> list[Notice]:
        """Returns the notice about a missing final line end; JSON objects show by themselves whether they are
        complete."""
        if not unfinished or self._keyed:
            return []
        return [Notice(what=_NO_END, count=1, unit="file", example=self._source)]
