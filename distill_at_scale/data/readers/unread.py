"""Notices about columns that look like times, ratings or splits although none is read, which nobody would miss
otherwise."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from shlex import quote
from typing import Any, Final

import pyarrow as pa

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.fields import known_as
from distill_at_scale.data.readers.heads import SAMPLE_ROWS, first_values, name_of
from distill_at_scale.data.readers.layout import Head
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.tables import TableHead, field_type
from distill_at_scale.data.row_validation import SPLIT_CODES

# The name of a time, or of a part of one.
_TIME_NAME: Final = re.compile(r"(.*[^a-z])?(year|month|day|hour)|.*(date|time|timestamp).*|.*[^a-z](at|ts|dt)")
_PART_NAME: Final = re.compile(r"(.*[^a-z])?(year|month|day|hour|minute|second|dayofweek|dow|week|hod)([^a-z].*)?")
_TIME: Final = re.compile(
    r"[0-9]{9,19}(\.[0-9]*)?|(19|20)[0-9]{2}[01][0-9]([0-3][0-9])?|"
    r"(19|20)[0-9]{2}([-/.年][0-9]{1,2}.*)?|[0-9]{1,2}([-/.][0-9]{1,2}[-/.][0-9]{2,4}.*)?|"
    r".*[A-Z][a-z]{2}[ .,].*(19|20)[0-9]{2}.*"
)
# A date is one whatever the name of its column.
_DATE: Final = re.compile(
    r"(19|20)[0-9]{2}([-/.])[01]?[0-9]\2[0-3]?[0-9]([T ].*)?|[0-3]?[0-9]([-/.])[0-3]?[0-9]\4(19|20)[0-9]{2}.*"
)
_RATING_NAME: Final = re.compile(r".*(rating|stars)|(.*[^a-z])?(score|grade|rate)|(score|grade|rate)[^a-z].*")
_DATED_FILE: Final = re.compile(r"(?<![0-9])(19|20)[0-9]{2}([-_]?)[01][0-9]\2[0-3][0-9](?![0-9])")
_CLOCK_NAME: Final = re.compile(r"(.*[^a-z])?(hour|hourmin|hour_min|minute|time|clock|hh|hhmm)([^a-z].*)?")
_CLOCK: Final = re.compile(r"[0-2]?[0-9]([0-5][0-9]|:[0-5][0-9](:[0-5][0-9].*)?)?")
_DAY: Final = re.compile(
    r"(19|20)[0-9]{2}([-/.]?)[01]?[0-9]\2[0-3]?[0-9]|[0-3]?[0-9]([-/.])[0-3]?[0-9]\3(19|20)?[0-9]{2}"
)
_MONTH: Final = re.compile(r"(19|20)[0-9]{2}[-/.]?[01][0-9]")
_SPLIT_NAME: Final = re.compile(r"(.*[^a-z])?(split|subset|fold|partition|phase|usage|set)([^a-z].*)?")
# How programs write splits; those that --split column does not read among them.
_SPLITS: Final = {*SPLIT_CODES, "training", "dev", "development", "eval", "holdout", "testing", "none", "unused"}
# What a row came to; its values are flags.
_LABEL_NAME: Final = re.compile(
    r"((is|has)_)?(click(ed)?|clk|liked?|purchased?|bought|buy|conver(ted|sion)|recommended|watched|listened|played|read"
    r"|label|target)"
)
_FLAGS: Final = {"0", "1", "0.0", "1.0", "false", "true"}
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_MOST_RATINGS: Final = 21
_COMPARED: Final = 100
# The values of a split differ between files; of tables pages are read, so few are compared.
_MOST_FILES: Final = 16


def unread_columns(
    heads: Sequence[Head], read: Collection[str], canonical: Mapping[str, str], given: Collection[str]
) -> dict[str, Notice]:
    """Reports columns of the first file that look like times or ratings while the log is read without.

    Args:
        heads: Heads of all files.
        read: Columns that are read.
        canonical: Canonical name → the log's own name, for the columns that are read.
        given: Canonical columns that the user named or ignored.

    Returns:
        Canonical column → its notice.
    """
    head = heads[0]
    if format_of(head).positions:
        return {}
    notices = {}
    for wanted, looks_like in ((Columns.TIMESTAMP, _is_time), (Columns.RATING, _is_rating)):
        if wanted in canonical or wanted in given:
            continue
        names = [name for name in dict.fromkeys(head.names) if name not in read and looks_like(head, name)]
        parts = [name for name in names if _PART_NAME.fullmatch(_plain(name)) and not _is_month(head, name)]
        looks = "look" if len(names) > 1 else "looks"
        if names and len(parts) == len(names):
            what = f"{looks} like parts of a timestamp, but no timestamp is read (join them into one column)"
            notices[wanted] = Notice(what=what, count=len(names), unit="column", example=", ".join(names[:4]))
        elif names:
            names = [name for name in names if name not in parts]
            looks = "look" if len(names) > 1 else "looks"
            what = f"{looks} like {wanted}s, but no {wanted} is read (--map {quote(f'{wanted}={names[0]}')} reads it)"
            notices[wanted] = Notice(what=what, count=len(names), unit="column", example=", ".join(names[:4]))
        elif wanted == Columns.TIMESTAMP and all(_DATED_FILE.search(_file_name(head)) for head in heads):
            what = (
                "named by a date, though no timestamp is read (--order file takes the order of files and lines for it)"
            )
            notices[wanted] = Notice(what=what, count=len(heads), unit="file", example=_file_name(head))
    return notices


def unread_clocks(heads: Sequence[Head], read: Collection[str], canonical: Mapping[str, str]) -> list[Notice]:
    """Reports columns of the first file that look like the time of day, where only a date is read."""
    name, head = canonical.get(Columns.TIMESTAMP), heads[0]
    if name is None or format_of(head).positions or not _is_day(head, name):
        return []
    clocks = [
        other
        for other in dict.fromkeys(head.names)
        if other not in read
        and _CLOCK_NAME.fullmatch(_plain(other))
        and (texts := _texts(head, other))
        and all(map(_CLOCK.fullmatch, texts))
    ]
    if not clocks:
        return []
    looks = "look" if len(clocks) > 1 else "looks"
    what = f"{looks} like the time of day, but only the date in '{name}' is read, so that the rows of a day tie"
    return [Notice(what=f"{what} (join the two into one column)", count=len(clocks), unit="column", example=clocks[0])]


def unread_splits(heads: Sequence[Head], read: Collection[str], given: Collection[str]) -> list[Notice]:
    """Reports a column that looks like the log's own split while ``--split`` makes another.

    Args:
        heads: Heads of all files.
        read: Columns that are read.
        given: Canonical columns that the user named or ignored.
    """
    if Columns.SPLIT in given:
        return []
    for name in dict.fromkeys(heads[0].names):
        known = known_as(name) == Columns.SPLIT
        if name in read or not (known or _SPLIT_NAME.fullmatch(_plain(name))):
            continue
        texts = [text for head in heads[:_MOST_FILES] if name in head.names for text in _texts(head, name, SAMPLE_ROWS)]
        kinds = dict.fromkeys(texts)
        plain = {text.lower() for text in kinds}
        # One part alone, or numbers, which may be folds, are a split only where the name says so.
        if not plain or plain - _SPLITS or not (known or ("train" in plain and len(plain) > 1)):
            continue
        how = "--split column" if known else f"--split column with --map {quote(f'split={name}')}"
        what = (
            f"column '{name}' looks like a split ({', '.join(kinds)}), but is not read: --split divides all rows again "
            f"({how} keeps it; rows with other values than train, validation and test are bad then)"
        )
        return [Notice(what=what, count=1, unit="column")]
    return []


def unread_labels(heads: Sequence[Head], read: Collection[str], canonical: Mapping[str, str]) -> list[Notice]:
    """Reports a column that says whether anything came of a row, such as ``is_click``, while all rows count alike.

    Args:
        heads: Heads of all files.
        read: Columns that are read.
        canonical: Canonical name → the log's own name, for the columns that are read.
    """
    head = heads[0]
    if Columns.RATING in canonical or format_of(head).positions:
        return []
    for name in dict.fromkeys(head.names):
        if name in read or not _LABEL_NAME.fullmatch(_plain(name)):
            continue
        texts = _texts(head, name, SAMPLE_ROWS, flags=True)
        kinds = set(texts)
        positive = next((kind for kind in kinds if kind.lower() in ("1", "1.0", "true")), None)
        if positive is None or len(kinds) != 2 or not {kind.lower() for kind in kinds} <= _FLAGS:
            continue
        share = 1 - texts.count(positive) / len(texts)
        how = f"--where {quote(f'{name}={positive}')}"
        what = (
            f"column '{name}' is {min(kinds - {positive})} in {share:.0%} of the first rows, but is not read: these "
            f"rows count like the others ({how} leaves them out)"
        )
        return [Notice(what=what, count=len(heads), unit="file", example=_file_name(head))]
    return []


def _is_month(head: Head, name: str) -> bool:
    """Returns whether a column holds months with their years, such as 202005."""
    return all(map(_MONTH.fullmatch, _texts(head, name)))


def _is_day(head: Head, name: str) -> bool:
    if isinstance(head, TableHead) and name in head.names and pa.types.is_date(field_type(head.schema, name)[0]):
        return True
    texts = _texts(head, name) if name in head.names else []
    return bool(texts) and all(map(_DAY.fullmatch, texts))


def _file_name(head: Head) -> str:
    return name_of(head).rsplit("/", 1)[-1]


def _is_time(head: Head, name: str) -> bool:
    if isinstance(head, TableHead):
        dtype, depth = field_type(head.schema, name)
        if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype):
            return not depth
    texts = _texts(head, name)
    plain = _plain(name)
    return bool(texts) and (
        all(map(_DATE.fullmatch, texts)) or (bool(_TIME_NAME.fullmatch(plain)) and all(map(_TIME.fullmatch, texts)))
    )


def _is_rating(head: Head, name: str) -> bool:
    if not any(map(_RATING_NAME.fullmatch, _plain(name).split("."))):
        return False
    texts = _texts(head, name)
    return bool(texts) and len(set(texts)) <= _MOST_RATINGS and all(map(_NUMBER.fullmatch, texts))


def _plain(name: str) -> str:
    """Returns a name in lower case, with a line where a word begins: ``InvoiceDate`` as ``invoice_date``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _texts(head: Head, name: str, most: int = _COMPARED, flags: bool = False) -> list[str]:
    values: Sequence[Any] = (
        first_values(head, name, floats=True) if isinstance(head, TableHead) else head.samples.get(name, [])
    )
    if flags:
        values = [str(value).lower() if isinstance(value, bool) else value for value in values]
    present = [str(value).strip() for value in values[:most] if value is not None and not isinstance(value, bool)]
    return [text for text in present if text and text != "nan"]
