"""Schema and fragments of a log: the result of planning, which workers receive as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.selection import Condition
from distill_at_scale.data.times import TimeRule
from distill_at_scale.registry import FORMATS

FileFormat = str
"""Name of a log format, as in `registry.FORMATS`."""
Quote = Literal["none", "line", "record"]
"""Extent of quotes: plain characters; quotes that close on their line, else plain; quotes around line ends too."""
TextType = Literal["int", "float", "bool", "string"]
Compression = Literal["gzip", "zstd", "bz2", "xz", "lz4"]


class LogSchema(BaseModel):
    """How every fragment of a log is read; decided once, so that all workers agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str]
    """Canonical name → the log's own name, for the columns that are read."""

    extra: dict[str, str] = {}
    """Key → the log's own name, for columns that are read only for :attr:`conditions`."""

    conditions: tuple[Condition, ...] = ()
    """Conditions that rows must meet to be read, with their weights."""

    id_types: dict[str, Literal["int64", "string"]]
    """Type of ``user_id`` and ``item_id`` in the good rows."""

    time_unit: Literal["s", "ms", "us", "ns", "days", "excel", "ticks", "iso", "format"] = "ms"
    """Unit of timestamps that do not carry their own, as Arrow's do."""

    time_format: str | None = None
    """``strptime`` format of timestamps with the unit ``format``."""

    time_zone: str | None = None
    """Zone of the first ISO 8601 times (empty: without a zone); None if they have several, or another format."""

    time_checked: bool = False
    """Whether times before 1990 are bad, because the log's times are later."""

    hex_ids: tuple[str, ...] = ()
    """Id columns with bytes that are not text, such as UUIDs, read as hexadecimal text."""

    text_types: dict[str, TextType] = {}
    """Canonical name → type in the first rows of text files, which the fast path expects."""

    positions: bool = False
    """Whether rows are in chronological order without timestamps."""

    unread: tuple[str, ...] = ()
    """Canonical columns that the first objects of JSON lines lack and that the user did not ignore."""

    @property
    def times(self) -> TimeRule:
        """Rule for reading timestamps."""
        return TimeRule(self.time_unit, self.time_format, self.time_checked)

    @property
    def read(self) -> dict[str, str]:
        """Canonical name or key → the log's own name, for all columns that are read."""
        return {**self.columns, **self.extra}

    @property
    def has_rating(self) -> bool:
        """Whether the good rows have ``rating``."""
        return Columns.RATING in self.columns or any(condition.weights for condition in self.conditions)

    @property
    def has_timestamp(self) -> bool:
        """Whether the good rows have ``timestamp``, or the order of the files stands for it."""
        return Columns.TIMESTAMP in self.columns or self.positions

    @property
    def has_split(self) -> bool:
        """Whether the good rows have ``split``."""
        return Columns.SPLIT in self.columns

    def good_schema(self) -> dict[str, pl.DataType]:
        """Returns names and Polars types of the good rows, in order."""
        types: dict[str, pl.DataType] = {
            Columns.USER_ID: _id_dtype(self.id_types[Columns.USER_ID]),
            Columns.ITEM_ID: _id_dtype(self.id_types[Columns.ITEM_ID]),
            Columns.RATING: pl.Float32(),
            Columns.TIMESTAMP: pl.Int64(),
            Columns.SPLIT: pl.Int8(),
        }
        present = {*self.columns, *([Columns.RATING] if self.has_rating else [])}
        return {name: dtype for name, dtype in types.items() if name in present}


def _id_dtype(name: str) -> pl.DataType:
    return pl.Int64() if name == "int64" else pl.String()


class Fragment(BaseModel):
    """One unit of work: a whole file, a run of a table's row groups, or a byte range of a text file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    format: FileFormat
    version: str = ""
    """Version of the file, which changes with its content."""

    rows: int
    """Number of rows: exact for Parquet without lists, otherwise an estimate."""

    bytes: int
    """Size on storage: of the byte range, or of the row groups as a share of the file."""

    row_groups: tuple[int, ...] = ()
    """Row groups, record batches or stripes of this fragment (tables)."""

    first_row: int | None = None
    """Number in the file (from 1) of the first row or line read; None if unknown."""

    start: int = 0
    """First byte at which lines of this fragment may begin (text)."""

    end: int | None = None
    """Byte before which lines of this fragment begin; None: to the end of the file (always for compressed files)."""

    partitions: dict[str, str | None] = {}
    """Values of the partition columns (``dt=2026-01-01``) that are read."""

    names: tuple[str, ...] = ()
    """Columns of the file in its own order (delimited text)."""

    delimiter: str | None = None
    compression: Compression | None = None

    quote: Quote = "record"
    """Extent of a quoted field (delimited text)."""

    header: str = ""
    """Header line of the file, used to detect repetitions (delimited text)."""


class ReadAs(BaseModel):
    """How some files of a log are read, for display."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: FileFormat
    files: int = 1
    delimiter: str | None = None
    """Delimiter between two fields; None if the format has none."""
    header: bool | None = None
    """Whether the first line names the columns; None if the format has no header."""
    quote: Quote = "none"
    """Extent of a quoted field."""

    def __str__(self) -> str:
        """Formats the description: ``csv, ',' between fields, the first line names the columns``."""
        # The format of a manifest may be a plugin's that this process does not know.
        format = FORMATS.get(self.format)
        parts: list[str] = [getattr(format, "title", "") or self.format]
        if self.delimiter is not None:
            parts.append(f"{self.delimiter!r} between fields")
        if self.header is not None:
            parts.append("the first line names the columns" if self.header else "columns named by --columns")
        if getattr(format, "quotes", False):
            parts.append("quotes are plain characters" if self.quote == "none" else "fields may be in quotes")
        return ", ".join(parts)


@dataclass(frozen=True)
class LogEstimate:
    """Size of a log before it is read.

    Attributes:
        files: Number of files with rows.
        rows: Number of rows; an estimate from the first lines unless ``exact``.
        exact: Whether ``rows`` is exact, as for Parquet.
        bytes: Size of the files on storage.
        timed: Whether rows have times that are more than positions in a file or line.
        skipped: (URI without credentials, reason) of files without rows.
        noticed: Notices from planning.
        lookalikes: Canonical column that is not read → notice about the columns that look like it.
        read_as: How the files are read, one entry for each way.
    """

    files: int
    rows: int
    exact: bool
    bytes: int
    timed: bool = False
    skipped: tuple[tuple[str, str], ...] = ()
    noticed: tuple[Notice, ...] = ()
    lookalikes: Mapping[str, Notice] = field(default_factory=dict)
    read_as: tuple[ReadAs, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a fragment; each input row is in ``good`` or ``bad``, or was left out.

    Attributes:
        good: Columns and types of :meth:`LogSchema.good_schema`.
        bad: Columns and types of :data:`distill_at_scale.data.row_validation.BAD_SCHEMA`.
        noticed: Notices about the rows.
        left_out: Option → number of rows that the schema's conditions left out.
        seen: (key, value) pairs of the requested values that occur.
        rows: ``good.height + bad.height``.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    noticed: tuple[Notice, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: frozenset[tuple[str, str]] = frozenset()

    @property
    def rows(self) -> int:
        """Number of input rows of this batch that were not left out."""
        return self.good.height + self.bad.height
