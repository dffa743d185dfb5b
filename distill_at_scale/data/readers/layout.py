"""What planning reads of a file: a table's head, or the layout of text: format, columns and first values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.schema import FileFormat, Quote
from distill_at_scale.data.readers.tables import TableHead
from distill_at_scale.data.readers.text import TextHead


@dataclass(frozen=True)
class TextLayout:
    """Layout and first rows of a text file.

    Attributes:
        head: First bytes of the file.
        format: Format of the file.
        names: Column names, in order (for JSON lines: the keys of the first objects).
        delimiter: Delimiter between fields.
        header_bytes: Length of the header line in bytes.
        samples: Column → first values, as text or (JSON) also numbers.
        header: Whether the first line names the columns; None if the format has no header.
        header_line: Header line, even if it is not used for the names.
        quote: Extent of a quoted field: its line or its record; ``none`` without quoting.
        noticed: Notices about the file as a whole.
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


Head = TableHead | TextLayout
"""What planning reads of a file."""
