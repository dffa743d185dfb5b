"""Reader options for raw logs: location and layout."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distill_at_scale.registry import FORMATS
from distill_at_scale.validation import OneOf

LogFormat = Annotated[str, OneOf(lambda: ["auto", *FORMATS], FORMATS.find)]
IdType = Literal["auto", "int", "string"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "days", "excel", "ticks", "iso"]


class LogOptions(BaseModel):
    """Location and layout of the log; every option except ``input`` is detected if not given."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: list[str] = Field(min_length=1)
    """Files, folders or globs of the raw log, on local disk, s3:// or any other storage that fsspec supports. A
    member of a .zip or .tar archive is named ARCHIVE!/MEMBER, all of them ARCHIVE!/*."""

    format: LogFormat = "auto"
    """File format; csv covers TSV and every other single-character delimiter, arrow covers Feather; text may be
    compressed with gzip, zstd, bzip2, xz or lz4. Other packages can add formats."""

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Character between two fields of a csv file, also written as \\t or \\x01; detected from the first lines if not
    given."""

    quote: Literal["auto", "none", '"'] = "auto"
    """Quoting of fields in csv files; none reads quotes as plain characters, as usual in tab-separated logs; auto: none
    for tab-separated files unless quotes close on their line, otherwise quoted."""

    columns: list[str] | None = None
    """Column names, in order, for text files without a header line."""

    order: Literal["time", "file"] = "time"
    """Order of a user's rows: time, by timestamp; file, for logs without timestamps whose lines are in chronological
    order: files in the order given (those of a folder by name), and lines in their order."""

    map: dict[str, str] = Field(default_factory=dict)
    """Mapping from canonical columns to the log's own: user_id=visitor; an empty name (rating=) ignores that column."""

    where: dict[str, list[str]] = Field(default_factory=dict)
    """Filter on a column's values: event=purchase, or event=view,purchase; conditions on several columns must all hold.
    Values are compared as text (5, true). Other rows are dropped and counted."""

    weight: str | None = Field(default=None, min_length=1)
    """Column with each row's numeric weight. Weights become the dataset's ratings, which --min-rating filters by and
    explicit objectives learn; models for implicit feedback count every row equally."""

    event: list[str] = Field(default_factory=list)
    """Kinds of events to read, each with its weight (default 1): view:0.1 purchase:1. Rows of other kinds are dropped
    and counted; weights become ratings, as with --weight. If a user and item have several events, --duplicates last
    keeps the latest, whatever its weight."""

    event_column: str | None = Field(default=None, min_length=1)
    """Column with the kind of event. Default: the column with a usual name, such as event, event_type, action or
    behavior."""

    id_type: IdType = "auto"
    """Type of ids, integers or strings; auto: integers if the first rows of every file are."""

    time_unit: TimeUnit = "auto"
    """Unit of the timestamps: s, ms, us or ns since 1970, days since 1970, excel (days since 1899-12-30), ticks (of
    .NET), or iso (ISO 8601 text, or columns of dates); auto: detected from the first values of every file; an error if
    that is ambiguous. A named unit also admits times outside 1995 to 2035."""

    time_format: str | None = None
    """Format of timestamps that are neither numbers nor ISO 8601, as for strptime: %d/%m/%Y %H:%M. The name of a zone
    after its offset is skipped: %z (%Z)."""

    @field_validator("delimiter", mode="before")
    @classmethod
    def _escaped(cls, given: Any) -> Any:
        """A shell hands \\t on as two characters."""
        code = re.fullmatch(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|t)", given) if isinstance(given, str) else None
        return given if code is None else chr(int(code[1] or code[2] or "9", 16))

    @field_validator("time_format")
    @classmethod
    def _reads_dates(cls, given: str | None) -> str | None:
        if given is not None:
            # The command line's help and completion read the options, but need no Polars.
            from distill_at_scale.data.times import check_format

            check_format(given)
        return given

    @field_validator("where", mode="before")
    @classmethod
    def _values_at_commas(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            str(name): [_text(one) for one in (several if isinstance(several, list | tuple) else _at_commas(several))]
            for name, several in given.items()
        }

    @field_validator("event", mode="before")
    @classmethod
    def _kinds_of_events(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return [f"{_text(kind)}:{_text(weight)}" for kind, weight in given.items()]
        several = given if isinstance(given, list | tuple) else [given]
        return [part for one in several for part in _at_commas(one)]

    @field_validator("event")
    @classmethod
    def _weights_are_numbers(cls, given: list[str]) -> list[str]:
        kinds = [_kind(text) for text in given]
        twice = [kind for kind, count in Counter(kind for kind, _ in kinds).items() if count > 1]
        if twice:
            raise ValueError(f"the kind '{twice[0]}' is given twice")
        return given

    @property
    def kinds(self) -> dict[str, float]:
        """Kind of event → weight."""
        return dict(_kind(text) for text in self.event)

    @model_validator(mode="after")
    def _one_home_for_weights(self) -> LogOptions:
        if self.event and self.weight is not None:
            raise ValueError("event and weight exclude each other; give one of them")
        for name, given in (("event", bool(self.event)), ("weight", self.weight is not None)):
            if given and "rating" in self.map:
                raise ValueError(f"{name} and map rating={self.map['rating']} exclude each other: weights are ratings")
        if self.event_column is not None and not self.event:
            raise ValueError("event_column is given without event; name the kinds to read, such as view:0.1 purchase:1")
        return self

    @model_validator(mode="after")
    def _one_way_to_read_times(self) -> LogOptions:
        if self.time_format is not None and self.time_unit != "auto":
            raise ValueError("time_format and time_unit exclude each other; give one of them")
        return self


def _text(value: Any) -> str:
    """Converts a value from YAML or Python to the text that it is compared as."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _at_commas(value: Any) -> list[str]:
    return [part.strip() for part in _text(value).split(",")]


def _kind(text: str) -> tuple[str, float]:
    """Parses ``view:0.1`` into kind and weight; the default weight is 1."""
    kind, colon, weight = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        number = float(weight)
    except ValueError:
        raise ValueError(f"'{text}': '{weight}' is not a number; write a kind and its weight as view:0.1") from None
    if not math.isfinite(number):
        raise ValueError(f"'{text}': a weight must be finite")
    return kind, number
