"""What a user can say about a raw log: where it lies and how it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distill_at_scale.data.times import check_format

LogFormat = Literal["auto", "parquet", "arrow", "orc", "csv", "jsonl", "inter", "movielens", "sequences"]
IdType = Literal["auto", "int", "string"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "days", "excel", "ticks", "iso"]


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
    """Unit of the timestamps: s, ms, us or ns since 1970, days since 1970, excel (days since 1899-12-30), ticks (of
    .NET), or iso (ISO 8601 text, or columns of dates); auto: told by the first values of every file, or asked for
    where that is not certain. A unit that is named also lets times outside 1995 to 2035 pass."""

    time_format: str | None = None
    """How timestamps are written that are neither numbers nor ISO 8601, as strptime takes it: %d/%m/%Y %H:%M"""

    @field_validator("time_format")
    @classmethod
    def _reads_dates(cls, given: str | None) -> str | None:
        if given is not None:
            check_format(given)
        return given

    @model_validator(mode="after")
    def _one_way_to_read_times(self) -> LogOptions:
        if self.time_format is not None and self.time_unit != "auto":
            raise ValueError("time_format and time_unit exclude each other; give one of them")
        return self
