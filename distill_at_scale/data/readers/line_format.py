"""Formats of text in which each line is a row: the simplest way to add a format."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import polars as pl

from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.data.readers.text import TextHead
from distill_at_scale.data.readers.text_format import SAMPLE_LINES, TextFormat
from distill_at_scale.errors import DasError


class LineFormat(TextFormat):
    """A format of lines, each with the same fields in the same order.

    Lines are split by a Python function, at a small part of the speed of the built-in formats; override
    :meth:`~distill_at_scale.data.readers.text_format.TextFormat.parse` for large logs.
    """

    names: ClassVar[tuple[str, ...]]
    """Names of the fields, in order; ``--columns`` replaces them."""

    @abstractmethod
    def fields(self, line: str) -> Sequence[str] | None:
        """Splits a line, without its end, into fields; None if it is malformed."""

    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Takes the names of the format, and the first values."""
        names = tuple(options.columns or self.names)
        rows = [row for line in lines[:SAMPLE_LINES] if (row := self.fields(line)) and len(row) == len(names)]
        if 2 * len(rows) < min(len(lines), SAMPLE_LINES):
            raise DasError(
                f"{head.name}: the first lines are not of the format {self.name}, with the fields {', '.join(names)} "
                f"({lines[0][:60]}); name the right format with --format."
            )
        samples = {name: [row[k] for row in rows] for k, name in enumerate(names)}
        return TextLayout(head, self.name, names, None, 0, samples)

    def parse(self, block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
        """Splits the lines; malformed ones go to the quarantine."""
        wanted = [(canonical, fragment.names.index(name)) for canonical, name in schema.read.items()]
        rows, at, broken, broken_at = [], [], [], []
        for number, line in enumerate(block.decode().split("\n")):
            text = line.rstrip("\r")
            if not text.strip():
                continue
            fields = self.fields(text)
            if fields is not None and len(fields) == len(fragment.names):
                rows.append([fields[position] for _, position in wanted])
                at.append(number)
            else:
                broken.append(text)
                broken_at.append(number)
        raw = pl.DataFrame(rows, schema=dict.fromkeys((c for c, _ in wanted), pl.String), orient="row")
        numbers = np.array(at, np.int64), np.array(broken_at, np.int64)
        reasons = [f"line is not of the format {self.name}"] * len(broken)
        return Parsed(raw, broken, reasons, lambda: numbers)
