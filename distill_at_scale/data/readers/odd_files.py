"""Notices about the files of a log as a whole, collected during planning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Set
from shlex import quote
from typing import Final

import pyarrow as pa

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.fields import known_as
from distill_at_scale.data.readers.heads import SAMPLE_ROWS, file_of, first_values, name_of
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.log_format import PACKED, format_of
from distill_at_scale.data.readers.schema import LogSchema
from distill_at_scale.data.readers.selection import EVENTS
from distill_at_scale.data.readers.tables import TableHead, field_type, is_list_column
from distill_at_scale.data.readers.types import not_integers, present

_DRAFTS: Final = re.compile(r"(~|\.(bak|old|orig|swp|tmp|temp|part|partial|crdownload|download))$", re.IGNORECASE)
_SPLIT_NAME: Final = re.compile(
    r"(?:^|[/._-])(train|training|valid|validation|val|dev|test)(?=[/._-]|$)", re.IGNORECASE
)
# Smaller tables may have one size by chance; of many, the first values of only some are compared.
_LEAST_ROWS: Final = 20
_MOST_COMPARED: Final = 16
# A column with more distinct values does not hold event kinds.
_MOST_EVENTS: Final = 20


def odd_files(
    heads: Sequence[Head], columns: dict[str, str], folders: Sequence[dict[str, str | None]], schema: LogSchema
) -> list[Notice]:
    """Returns notices about formats, types and folders.

    Args:
        heads: Heads of all files.
        columns: Canonical name → the log's own name.
        folders: Columns from the folder names of each file.
        schema: Schema with which the log is read.
    """
    noticed = [notice for head in heads if not isinstance(head, TableHead) for notice in head.noticed]
    noticed += _formats(heads)
    noticed += _copies(heads, folders, [columns[Columns.USER_ID], columns[Columns.ITEM_ID]])
    read = set(schema.read.values())
    noticed += _folders(heads, read, folders)
    noticed += _events(heads, read)
    tables = [head for head in heads if isinstance(head, TableHead)]
    for canonical, name in columns.items():
        having = [head for head in tables if name in head.names]
        noticed += _types(having, canonical, name)
        lists = [head for head in having if is_list_column(head, name)]
        if lists:
            what = f"column '{name}' holds lists; each of their values is read as a separate row"
            noticed.append(Notice(what=what, count=len(lists), unit="file", example=name_of(lists[0])))
        if canonical in (Columns.USER_ID, Columns.ITEM_ID):
            noticed += _no_integers(having, canonical, name)
        if canonical == Columns.TIMESTAMP:
            noticed += _coarse_times(having, name)
    for canonical in (Columns.USER_ID, Columns.ITEM_ID):
        noticed += _not_quite_integers(heads, canonical, columns[canonical], schema)
    for canonical in schema.hex_ids:
        what = f"{canonical} holds bytes that are not text; its ids are read as hexadecimal digits"
        noticed.append(Notice(what=what, count=len(heads), unit="file", example=name_of(heads[0])))
    return noticed


def _no_integers(heads: Sequence[TableHead], canonical: str, name: str) -> list[Notice]:
    """Reports ids that a table stores as floats or decimals, as programs do with integers among missing values."""
    types = [(field_type(head.schema, name)[0], head) for head in heads]
    odd = [(t, head) for t, head in types if pa.types.is_floating(t) or (pa.types.is_decimal(t) and t.scale > 0)]
    if not odd:
        return []
    what = f"column '{name}' has the type {odd[0][0]}; its whole numbers are read as the integers of {canonical}"
    return [Notice(what=what, count=len(odd), unit="file", example=name_of(odd[0][1]))]


def _formats(heads: Sequence[Head]) -> list[Notice]:
    counts = Counter(head.format for head in heads)
    usual, _ = counts.most_common(1)[0]
    noticed = []
    for format, count in counts.items():
        if format != usual:
            example = next(name_of(head) for head in heads if head.format == format)
            what = f"format {format}, beside {counts[usual]:,} with the format {usual}; all are read as one log"
            noticed.append(Notice(what=what, count=count, unit="file", example=example))
    return noticed


def _copies(heads: Sequence[Head], folders: Sequence[dict[str, str | None]], read: Sequence[str]) -> list[Notice]:
    """Files that were probably not meant: second copies of others, backups, downloads that did not end."""
    noticed = []
    drafts = [head for head in heads if _DRAFTS.search(file_of(head).uri)]
    if drafts and len(drafts) < len(heads):
        what = "with the name of a backup or an unfinished download, read as a part of the log"
        noticed.append(Notice(what=what, count=len(drafts), unit="file", example=name_of(drafts[0])))
    alike: dict[tuple[object, ...], list[Head]] = {}
    for head, values in zip(heads, folders):
        start = head.head.text if isinstance(head, TextLayout) else None
        if start:
            alike.setdefault((file_of(head).size, start, *sorted(values.items())), []).append(head)
    copies = [group for group in alike.values() if len(group) > 1]
    copies += _same_tables([head for head in heads if isinstance(head, TableHead)], read)
    if copies:
        what = f"with the size and the first lines of another ({name_of(copies[0][0])}), read like it: a copy?"
        count = sum(len(group) - 1 for group in copies)
        noticed.append(Notice(what=what, count=count, unit="file", example=name_of(copies[0][1])))
    return noticed + _packed_twins(heads) + _splits(heads)


def _same_tables(heads: Sequence[TableHead], read: Sequence[str]) -> list[list[Head]]:
    """Tables of one size whose first values are the same too, in groups; few are compared, since pages are read."""
    sizes: dict[tuple[object, ...], list[TableHead]] = {}
    for head in heads:
        if sum(head.group_rows) >= _LEAST_ROWS:
            sizes.setdefault((file_of(head).size, head.group_rows, *head.names), []).append(head)
    groups: dict[tuple[object, ...], list[Head]] = {}
    for key, several in list(sizes.items())[:_MOST_COMPARED]:
        for head in several[:_MOST_COMPARED] if len(several) > 1 else ():
            values = [first_values(head, name) for name in read if name in head.names]
            if any(values):
                groups.setdefault((key, str(values)), []).append(head)
    return [group for group in groups.values() if len(group) > 1]


def _packed_twins(heads: Sequence[Head]) -> list[Notice]:
    """Reports files beside their own compressed copy, such as log.csv and log.csv.gz."""
    names = {file_of(head).uri: head for head in heads}
    twins = [head for uri, head in names.items() if (plain := PACKED.sub("", uri)) != uri and plain in names]
    if not twins:
        return []
    what = "compressed, beside one of the same name that is not; both are read: a copy?"
    return [Notice(what=what, count=len(twins), unit="file", example=name_of(twins[0]))]


def _splits(heads: Sequence[Head]) -> list[Notice]:
    """Reports files that are named as the parts of a split, which is not kept."""
    parts: dict[str, Head] = {}
    for head in heads:
        named = _SPLIT_NAME.findall(file_of(head).uri)
        if named:
            parts.setdefault(named[-1].lower()[:3], head)
    if "tra" not in parts or len(parts) < 2:
        return []
    what = (
        "named as parts of a split (train, test …) are read as one log, and --split divides it again (to keep their "
        "split, write it into a column 'split' of the files and say --split column)"
    )
    return [Notice(what=what, count=len(parts), unit="file", example=name_of(next(iter(parts.values()))))]


def _coarse_times(heads: Sequence[TableHead], name: str) -> list[Notice]:
    """Reports times in 32-bit floats, which lose seconds."""
    odd = [head for head in heads if (t := field_type(head.schema, name)[0]) == pa.float32() or t == pa.float16()]
    if not odd:
        return []
    what = (
        f"column '{name}' holds times as 32-bit floats, which are exact to 64 to 128 s only, so that neighbours tie; "
        f"write it again as integers if it still exists as such"
    )
    return [Notice(what=what, count=len(odd), unit="file", example=name_of(odd[0]))]


def _folders(heads: Sequence[Head], read: Set[str], folders: Sequence[dict[str, str | None]]) -> list[Notice]:
    unread: dict[str, list[str]] = {}
    noticed = []
    for head, values in zip(heads, folders):
        for name in values.keys() & read & set(head.names):
            if all(str(value) == values[name] for value in _values(head, name)):
                continue
            what = f"both hold the column '{name}': the file and the name of its folder; the file's is read"
            noticed.append(Notice(what=what, count=1, unit="file", example=name_of(head)))
        for name in values:
            if name not in read and name not in head.names:
                unread.setdefault(name, []).append(name_of(head))
    return noticed + [
        Notice(
            what=f"the names of the folders hold the column '{name}', which is not read "
            f"({_reading(name)}, --where {name}=… filters by it)",
            count=len(places),
            unit="file",
            example=places[0],
        )
        for name, places in unread.items()
    ]


def _reading(name: str) -> str:
    if known_as(name) == Columns.SPLIT:
        return "--split column keeps that split"
    return f"--map timestamp={name} and the like read it"


def _events(heads: Sequence[Head], read: Set[str]) -> list[Notice]:
    """Reports an unread column of event kinds, such as views and purchases, which are then all read alike."""
    for head in heads:
        for name in head.names:
            if name in read or not EVENTS.fullmatch(name.lower()):
                continue
            kinds = Counter(str(value) for value in _values(head, name) if value is not None and value != "")
            if 2 <= len(kinds) <= _MOST_EVENTS:
                names = ", ".join(kind for kind, _ in kinds.most_common(4)) + (", …" if len(kinds) > 4 else "")
                (one, _), (two, _) = kinds.most_common(2)
                what = (
                    f"column '{name}' tells kinds of events apart ({names}), but is not read: all of them count alike; "
                    f"keep some with --where {quote(f'{name}={one}')}, or weigh them with --event "
                    f"{quote(f'{one}:0.1')} {quote(f'{two}:1')}"
                )
                return [Notice(what=what, count=len(heads), unit="file", example=name_of(head))]
            if len(kinds) == 1 and name.lower() != "type" and not _all_sampled(head):
                what = (
                    f"column '{name}' is '{next(iter(kinds))}' in the first rows, but is not read: if others follow, "
                    f"they count alike (--where and --event read it)"
                )
                return [Notice(what=what, count=len(heads), unit="file", example=name_of(head))]
    return []


def _all_sampled(head: Head) -> bool:
    """Whether the first values of a file are all that it has."""
    if isinstance(head, TableHead):
        return head.exact and sum(head.group_rows) <= SAMPLE_ROWS
    return head.head.complete and head.head.text.count("\n") <= SAMPLE_ROWS


def _not_quite_integers(heads: Sequence[Head], canonical: str, name: str, schema: LogSchema) -> list[Notice]:
    """Ids that are read as text because of a few values, or files, among integers."""
    texts = [head for head in heads if isinstance(head, TextLayout) and not format_of(head).keyed]
    if schema.id_types[canonical] != "string" or not texts:
        return []
    odd = [(value, head) for head in texts for value in not_integers(head.samples.get(name, []))]
    total = sum(len(present(head.samples.get(name, []))) for head in texts)
    if not odd or 2 * len(odd) > total:
        return []
    what = f"among the first {canonical}s, unlike the plain integers beside it: all are read as text (007 is not 7)"
    return [Notice(what=what, count=len(odd), unit="value", example=shown(odd[0][0]))]


def _values(head: Head, name: str) -> Sequence[object]:
    return first_values(head, name) if isinstance(head, TableHead) else head.samples.get(name, [])


def _types(heads: Sequence[TableHead], canonical: str, name: str) -> list[Notice]:
    """Reports files in which a column's type differs from that in most files, or is null."""
    if not heads:
        return []
    types = [field_type(head.schema, name)[0] for head in heads]
    counts = Counter(str(dtype) for dtype in types if not pa.types.is_null(dtype))
    usual = counts.most_common(1)[0][0] if counts else "null"
    noticed = []
    for odd in dict.fromkeys(str(dtype) for dtype in types if str(dtype) != usual or pa.types.is_null(dtype)):
        places = [name_of(head) for head, dtype in zip(heads, types) if str(dtype) == odd]
        if odd == "null":
            what = f"column '{name}' holds only nulls, so no row of the file has a {canonical}"
            if canonical not in ("user_id", "item_id"):
                what += f" (--map {canonical}= leaves it out of the whole log)"
        else:
            what = f"column '{name}' has the type {odd} here and {usual} in most files"
        noticed.append(Notice(what=what, count=len(places), unit="file", example=places[0]))
    return noticed
