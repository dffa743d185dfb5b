"""What a user can say about a raw log: where it lies and how it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LogFormat = Literal["auto", "parquet", "arrow", "orc", "csv", "jsonl", "inter", "movielens", "sequences"]
IdType = Literal["auto", "int", "string"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso"]


class LogOptions(BaseModel):
    """Where the log is and how to read it; everything but ``input`` is found out when not given."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: list[str] = Field(min_length=1)
    """Files, folders or globs of the raw log, on local disk, s3:// or any other storage that fsspec knows."""

    format: LogFormat = "auto"
    """File format; csv covers TSV and every other single-character delimiter, arrow covers Feather; text may be
    packed by gzip, zstd, bzip2, xz or lz4."""

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """The character between two fields of a csv file; found out from the first lines when not given."""

    quote: Literal["auto", "none", '"'] = "auto"
    """Whether fields of csv files are quoted; none takes quotes for plain characters, as tab-separated logs mean them;
    auto: none between tabs unless quotes close on their line, else quoted."""

    columns: list[str] | None = None
    """Names of the columns, in order, of text files that have no header line."""

    order: Literal["time", "file"] = "time"
    """What a user's rows are ordered by: time, their timestamps; file, for logs without them whose lines are in the
    order of time: files in the order given (those of a folder by name), and lines in their order."""

    map: dict[str, str] = Field(default_factory=dict)
    """Which column of the log is which: user_id=visitor; an empty name (rating=) ignores that column."""

    id_type: IdType = "auto"
    """Whether ids are integers or strings; auto: integers where the first rows of every file are."""

    time_unit: TimeUnit = "auto"
    """Unit of the timestamps; auto: ISO text by its look, numbers by their size."""
