"""What planning a log decides, handed to the workers as JSON: its schema and its fragments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.selection import Condition
from distill_at_scale.data.times import TimeRule

FileFormat = Literal["parquet", "arrow", "arrow_stream", "orc", "csv", "jsonl", "inter", "movielens", "sequences"]
Quote = Literal["none", "line", "record"]
"""Quotes are plain characters; close on their line or are plain characters; or may hold line ends."""
TextType = Literal["int", "float", "bool", "string"]
Compression = Literal["gzip", "zstd", "bz2", "xz", "lz4"]

_FORMATS: Final = {
    "sequences": "sequences (a line a user: the user, then its items)",
    "arrow": "arrow (Feather, IPC)",
    "arrow_stream": "arrow (IPC stream)",
}


class LogSchema(BaseModel):
    """How every fragment of a log is read; decided once, so that all workers agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str]
    """Canonical name → the log's own name, of the columns that are read."""

    extra: dict[str, str] = {}
    """Key → the log's own name, of the columns that are read for :attr:`conditions` alone."""

    conditions: tuple[Condition, ...] = ()
    """What rows must hold to be read at all, and their weights."""

    id_types: dict[str, Literal["int64", "string"]]
    """Type of ``user_id`` and ``item_id`` in the good rows."""

    time_unit: Literal["s", "ms", "us", "ns", "days", "excel", "ticks", "iso", "format"] = "ms"
    """Unit of timestamps that do not carry their own (as Arrow's do)."""

    time_format: str | None = None
    """How timestamps are written, of the unit ``format``; as ``strptime`` takes it."""

    time_checked: bool = False
    """Whether times before 1990 are bad, since the log's own are later."""

    hex_ids: tuple[str, ...] = ()
    """Id columns whose values are bytes and no text, such as UUIDs: read as hexadecimal text."""

    text_types: dict[str, TextType] = {}
    """Canonical name → how the first rows of text files write it; what the fast path expects."""

    positions: bool = False
    """Whether rows are in the order of time, and have no timestamps of their own."""

    unread: tuple[str, ...] = ()
    """Canonical columns that the first objects of JSON lines do not have, and that nobody said to ignore."""

    @property
    def times(self) -> TimeRule:
        """How timestamps are read."""
        return TimeRule(self.time_unit, self.time_format, self.time_checked)

    @property
    def read(self) -> dict[str, str]:
        """Canonical name or key → the log's own name, of all columns that are read."""
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
        """Names and Polars types of the good rows, in order."""
        types: dict[str, pl.DataType] = {
            Columns.USER_ID: _id_dtype(self.id_types[Columns.USER_ID]),
            Columns.ITEM_ID: _id_dtype(self.id_types[Columns.ITEM_ID]),
            Columns.RATING: pl.Float32(),
            Columns.TIMESTAMP: pl.Int64(),
            Columns.SPLIT: pl.Int8(),
        }
        there = {*self.columns, *([Columns.RATING] if self.has_rating else [])}
        return {name: dtype for name, dtype in types.items() if name in there}


def _id_dtype(name: str) -> pl.DataType:
    return pl.Int64() if name == "int64" else pl.String()


class Fragment(BaseModel):
    """One unit of work: a whole file, a run of a table's row groups, or a byte range of a text file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    format: FileFormat
    version: str = ""
    """Changes when the file's content does."""

    rows: int
    """Number of rows: exact for Parquet without lists, else an estimate."""

    bytes: int
    """Size on storage: of the byte range, or of the row groups as a share of the file."""

    row_groups: tuple[int, ...] = ()
    """Tables: the row groups, record batches or stripes of this fragment."""

    first_row: int | None = None
    """Number in the file (from 1) of the first row or line read; None where it is not known."""

    start: int = 0
    """Text: the fragment holds the lines that begin at or after this byte …"""

    end: int | None = None
    """… and before this one; None: up to the end (always so for compressed files)."""

    partitions: dict[str, str | None] = {}
    """Columns that the names of the file's folders give (``dt=2026-01-01``), of those that are read."""

    names: tuple[str, ...] = ()
    """Text with fields: the file's columns in its own order."""

    delimiter: str | None = None
    compression: Compression | None = None

    quote: Quote = "record"
    """Text with fields: how far a quoted field reaches."""

    header: str = ""
    """Text with fields: the line of column names that the file begins with, to be known when it comes again."""


class ReadAs(BaseModel):
    """How some files of a log are read, for people to check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: FileFormat
    files: int = 1
    delimiter: str | None = None
    """between two fields; None where the format has none"""
    header: bool | None = None
    """whether the first line names the columns; None where the format itself does"""
    quote: Quote = "none"
    """how far a quoted field reaches"""

    def __str__(self) -> str:
        """``csv, ',' between fields, the first line names the columns``."""
        parts: list[str] = [_FORMATS.get(self.format, self.format)]
        if self.delimiter is not None:
            parts.append(f"{self.delimiter!r} between fields")
        if self.header is not None:
            parts.append("the first line names the columns" if self.header else "columns named by --columns")
        if self.format in ("csv", "inter"):
            parts.append("quotes are plain characters" if self.quote == "none" else "fields may be in quotes")
        return ", ".join(parts)


@dataclass(frozen=True)
class LogEstimate:
    """Size of a log before it is read.

    Attributes:
        files: files that have rows.
        rows: rows in them; ``exact`` when all are Parquet, else an estimate from the first lines.
        bytes: size of those files on storage.
        skipped: (uri without credentials, reason) of files without rows.
        noticed: what planning skipped, or found odd.
        read_as: how the files are read, one entry for each way.
    """

    files: int
    rows: int
    exact: bool
    bytes: int
    skipped: tuple[tuple[str, str], ...] = ()
    noticed: tuple[Notice, ...] = ()
    read_as: tuple[ReadAs, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of a fragment; each input row is in one of ``good`` and ``bad``, or was left out.

    Attributes:
        good: columns and types of :meth:`LogSchema.good_schema`.
        bad: columns and types of :data:`distill_at_scale.data.row_validation.BAD_SCHEMA`.
        noticed: what is odd in its rows.
        left_out: option → rows that the schema's conditions left out.
        seen: (key, value) of the values that conditions ask for, and that occur.
        rows: ``good.height + bad.height``.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    noticed: tuple[Notice, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: frozenset[tuple[str, str]] = frozenset()

    @property
    def rows(self) -> int:
        """Input rows of this batch that were not left out."""
        return self.good.height + self.bad.height
