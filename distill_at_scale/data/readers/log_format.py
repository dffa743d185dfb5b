"""The contract of a log format: which files it recognises, how it plans their fragments, and how it reads one.

Tables with columns and types extend :class:`~distill_at_scale.data.readers.table_format.TableFormat`, lines of text
:class:`~distill_at_scale.data.readers.text_format.TextFormat`, or, where each line is a row,
:class:`~distill_at_scale.data.readers.line_format.LineFormat`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from distill_at_scale.data import storage
from distill_at_scale.data.readers.layout import Head
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.registry import FORMATS

PACKED: Final = re.compile(r"\.(gz|gzip|zst|zstd|bz2|xz|lz4)$")


class LogFormat(ABC):
    """One format of log files. An instance is registered under its name; it holds no state."""

    name: ClassVar[str]
    """Name, as in ``--format``; for a format from outside the package the name that the user gives takes its place."""

    title: ClassVar[str] = ""
    """Description for display; by default the name."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Endings of the names of its files, without the dot and without that of a compression."""

    keyed: ClassVar[bool] = False
    """Whether each line names its fields and tells numbers from text, as JSON objects do."""

    positions: ClassVar[bool] = False
    """Whether the place in a line stands for time."""

    counted: ClassVar[bool] = True
    """Whether heads tell the exact number of rows (tables)."""

    def recognises(self, file: storage.FileInfo, start: bytes) -> bool:
        """Returns whether a file is of this format, by its name or its first bytes as stored; by default by its
        ending."""
        return ending(file.uri) in self.endings

    @abstractmethod
    def head(self, file: storage.FileInfo, start: bytes, options: LogOptions) -> Head | None:
        """Reads what planning needs of a file: a table's columns and types, or a text's first lines.

        Args:
            file: The file.
            start: Its first bytes, as stored.
            options: Reader options.

        Returns:
            The head; None if the file has no rows.

        Raises:
            DasError: The file is not of this format, or is damaged.
        """

    @abstractmethod
    def plan(
        self, head: Head, fragment_bytes: int, partitions: Mapping[str, str | None], rows_per_row: float
    ) -> list[Fragment]:
        """Divides a file into fragments that can be read independently.

        Args:
            head: Head of the file.
            fragment_bytes: Approximate size of a fragment of text, in bytes.
            partitions: Columns in the names of the file's folders.
            rows_per_row: Mean length of lists, which give a row for each value.
        """

    @abstractmethod
    def read(self, fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
        """Reads a fragment; each of its rows is in one batch, good or bad. The same fragment gives the same batches.

        Raises:
            DasError: The file is damaged or missing.
        """


def format_of(one: Head | Fragment) -> LogFormat:
    """Returns the format of a head or fragment."""
    found: LogFormat = FORMATS.find(one.format)
    return found


def ending(uri: str) -> str:
    """Returns the ending of a file's name, in lower case, without that of a compression; empty without one."""
    name = PACKED.sub("", uri.rsplit("/", 1)[-1].lower())
    return name.rsplit(".", 1)[-1] if "." in name else ""
