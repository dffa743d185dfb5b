"""What the first lines of a text file tell: its format, its columns, and their first values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.schema import FileFormat, Quote
from distill_at_scale.data.readers.text import TextHead


@dataclass(frozen=True)
class TextLayout:
    """How a text file is written, and its first rows.

    Attributes:
        head: its first bytes.
        format: its format.
        names: its columns, in order (of JSON lines: the keys of the first objects).
        delimiter: between fields.
        header_bytes: length of the header line.
        samples: column → its first values, text or (JSON) numbers too.
        header: whether the first line names the columns; None where the format has no such line.
        header_line: that line, also where it is there but not used for the names.
        quote: how far a quoted field reaches.
        noticed: what is odd about the file as a whole.
    """

    head: TextHead
    format: FileFormat
    names: tuple[str, ...]
    delimiter: str | None
    header_bytes: int
    samples: dict[str, list[Any]]
    header: bool | None = None
    header_line: str = ""
    quote: Quote = "none"
    noticed: tuple[Notice, ...] = ()
