"""Delimited text: CSV and the like, RecBole's .inter, and MovieLens' ``::``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from distill_at_scale.data.readers.delimited import parse_delimited
from distill_at_scale.data.readers.delimited_layout import TYPED_FIELD, delimited, movielens
from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.log_format import ending
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.quoting import Quoting
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.data.readers.text import TextHead, whole_lines
from distill_at_scale.data.readers.text_format import TextFormat


class Delimited(TextFormat):
    """Lines with a delimiter of one character, with or without quotes."""

    name, quotes, typed = "csv", True, False
    endings: ClassVar[tuple[str, ...]] = ("csv", "tsv")

    def fits(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
        """Takes every text that no other format takes."""
        return True

    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Determines the delimiter, the quoting and the header."""
        return delimited(head, lines, options, self.name, self.typed, ending(head.file.uri) == "tsv")

    def whole(self, fragment: Fragment, schema: LogSchema) -> Callable[[bytes], int]:
        """A record in quotes may span lines."""
        return Quoting.of(fragment, schema).end if self.quotes and fragment.quote == "record" else whole_lines

    def parse(self, block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
        """Parses one block of whole records."""
        return parse_delimited(block, fragment, schema)


class Inter(Delimited):
    """RecBole's table, whose header gives names and types: ``user_id:token``."""

    name, endings, typed = "inter", ("inter",), True

    def fits(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
        """Looks for the typed header."""
        return all(TYPED_FIELD.match(field) for field in lines[0].split("\t"))


class MovieLens(Delimited):
    """Lines with ``::`` between fields, as in MovieLens 1M."""

    name, endings, quotes = "movielens", (), False

    def fits(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
        """Looks for the delimiter."""
        return all("::" in line for line in lines)

    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Takes the names of MovieLens, unless there is a header or --columns."""
        return movielens(head, lines, options)


CSV, INTER, MOVIELENS = Delimited(), Inter(), MovieLens()
