"""The driver's half of reading a log: list the files, look at their heads, agree on one schema."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers import parquet
from distill_at_scale.data.readers.fields import check_map, resolve
from distill_at_scale.data.readers.formats import TextLayout, find_layout
from distill_at_scale.data.readers.listing import list_inputs
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.parquet import ParquetHead
from distill_at_scale.data.readers.recognise import refuse_foreign
from distill_at_scale.data.readers.schema import Fragment, LogEstimate, LogSchema, ReadAs
from distill_at_scale.data.readers.text import HEAD_BYTES, LONG_HEAD_BYTES, read_start, read_text_head
from distill_at_scale.data.readers.types import id_kind, number_kind, time_unit
from distill_at_scale.errors import DasError

TEXT_FRAGMENT_BYTES: Final = 64 << 20
_THREADS: Final = 16
# Enough files to tell the unit of Parquet timestamps, which takes a read of data.
_TIMED_FILES: Final = 8

Head = ParquetHead | TextLayout
Unit = Literal["s", "ms", "us", "ns", "iso"]


def plan_log(
    options: LogOptions, want_split: bool = False, fragment_bytes: int = TEXT_FRAGMENT_BYTES
) -> tuple[LogSchema, list[Fragment], LogEstimate]:
    """Lists a log's files and decides how they are read, from their footers and first lines alone.

    Args:
        options: where the log is, and what the user says about it.
        want_split: whether the log's own ``split`` column is read, and must be there.
        fragment_bytes: about how much of an uncompressed text file makes one fragment.

    Returns:
        The schema for all fragments; the fragments, ordered by file and place in it; sizes and skipped files.
        There may be no fragment, when the files hold headers only.

    Raises:
        DasError: no file, only empty files, a file that cannot be read, columns missing, unclear or different
            between files, or types that cannot be told.
    """
    check_map(options.map)
    files = list_inputs(options.input)
    skipped = [(storage.redact(file.uri), "the file is empty") for file in files if not file.size]
    files = [file for file in files if file.size]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda file: _read_head(file, options), files))
    skipped += [(storage.redact(f.uri), "the file holds no line") for f, head in zip(files, found) if head is None]
    heads = [head for head in found if head is not None]
    if not heads:
        raise DasError(f"{_listed([place for place, _ in skipped])}: all input files are empty; nothing to read.")

    columns = [resolve(head.names, options.map, want_split, _name(head)) for head in heads]
    _check_agreement(heads, columns)
    for head, own in zip(heads, columns):
        if isinstance(head, ParquetHead):
            parquet.check_types(head, own)
    schema = _schema(options, heads, columns[0])

    fragments: list[Fragment] = []
    size = 0
    for head in heads:
        pieces = _fragments(head, schema, fragment_bytes)
        fragments += pieces
        if pieces:
            size += _file(head).size
        else:
            skipped.append((_name(head), "the file has column names but no rows"))
    estimate = LogEstimate(
        files=len({fragment.uri for fragment in fragments}),
        rows=sum(fragment.rows for fragment in fragments),
        exact=all(isinstance(head, ParquetHead) for head in heads),
        bytes=size,
        skipped=tuple(skipped),
        noticed=_noticed(heads, skipped),
        read_as=_read_as(heads),
    )
    return schema, fragments, estimate


def _read_head(file: storage.FileInfo, options: LogOptions) -> Head | None:
    raw = read_start(file, HEAD_BYTES)
    place = storage.redact(file.uri)
    refuse_foreign(place, raw)
    if raw.startswith(b"PARE"):
        raise DasError(f"{place}: the Parquet file is encrypted; decrypt it first.")
    if raw.startswith(b"PAR1") and options.format in ("auto", "parquet"):
        return parquet.read_footer(file)
    named = options.format == "auto" and re.search(r"\.(parquet|pq)$", file.uri.lower())
    if named or options.format == "parquet":
        raise DasError(f"{place}: not a Parquet file (it does not begin with PAR1); name its format with --format.")
    head = read_text_head(file, raw)
    if not head.has_line:
        head = read_text_head(file, read_start(file, LONG_HEAD_BYTES))
    return find_layout(head, options)


def _file(head: Head) -> storage.FileInfo:
    return head.file if isinstance(head, ParquetHead) else head.head.file


def _name(head: Head) -> str:
    return storage.redact(_file(head).uri)


def _read_as(heads: Sequence[Head]) -> tuple[ReadAs, ...]:
    ways = Counter(
        ReadAs(format="parquet")
        if isinstance(head, ParquetHead)
        else ReadAs(format=head.format, delimiter=head.delimiter, header=head.header)
        for head in heads
    )
    return tuple(way.model_copy(update={"files": files}) for way, files in ways.items())


def _noticed(heads: Sequence[Head], skipped: Sequence[tuple[str, str]]) -> tuple[Notice, ...]:
    passed_over = [Notice(what=f"skipped: {why}", count=1, unit="file", example=place) for place, why in skipped]
    return tuple(merge([passed_over, *(head.noticed for head in heads if isinstance(head, TextLayout))]))


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


def _check_agreement(heads: Sequence[Head], columns: Sequence[dict[str, str]]) -> None:
    """All files must have the same columns of those that are read, under the same names."""
    usual = Counter(tuple(sorted(own.items())) for own in columns).most_common(1)[0][0]
    for head, own in zip(heads, columns):
        if tuple(sorted(own.items())) != usual:
            here = ", ".join(own.values())
            there = ", ".join(dict(usual).values())
            raise DasError(
                f"{_name(head)}: its columns ({here}) differ from those of the other files ({there}); "
                f"read it by itself, or leave a column out with --map NAME= (empty)."
            )


def _schema(options: LogOptions, heads: Sequence[Head], columns: dict[str, str]) -> LogSchema:
    layouts = [head for head in heads if isinstance(head, TextLayout)]
    id_types: dict[str, Literal["int64", "string"]] = {}
    text_types: dict[str, Literal["int", "float", "string"]] = {}
    for canonical, name in columns.items():
        kinds = {number_kind(layout.samples.get(name, []), layout.format == "jsonl") for layout in layouts} - {None}
        text_types[canonical] = "string" if not kinds or "string" in kinds else "float" if "float" in kinds else "int"
    for canonical in (Columns.USER_ID, Columns.ITEM_ID):
        name = columns[canonical]
        ids = {
            parquet.id_kind(head, name)
            if isinstance(head, ParquetHead)
            else id_kind(head.samples.get(name, []), head.format == "jsonl")
            for head in heads
        } - {None}
        as_int = ids == {"int"} if options.id_type == "auto" else options.id_type == "int"
        id_types[canonical] = "int64" if as_int else "string"
    return LogSchema(
        columns=columns,
        id_types=id_types,
        time_unit=_time_unit(options, heads, columns),
        text_types=text_types,
    )


def _time_unit(
    options: LogOptions, heads: Sequence[Head], columns: dict[str, str]
) -> Literal["s", "ms", "us", "ns", "iso"]:
    name = columns.get(Columns.TIMESTAMP)
    if any(isinstance(head, TextLayout) and head.format == "sequences" for head in heads) or name is None:
        return "ms"
    if options.time_unit != "auto":
        return options.time_unit
    units: dict[Unit, Head] = {}
    parquets = [head for head in heads if isinstance(head, ParquetHead)]
    timed = parquets[:: max(1, len(parquets) // _TIMED_FILES)]
    sampled: list[Head] = [*timed, *(head for head in heads if isinstance(head, TextLayout))]
    for head in sampled:
        sample = parquet.sample_times(head, name) if isinstance(head, ParquetHead) else head.samples.get(name, [])
        unit = time_unit(sample or [], name, _name(head))
        if unit is not None:
            units.setdefault(unit, head)
    if len(units) > 1:
        (first, here), (second, there) = list(units.items())[:2]
        raise DasError(
            f"{_name(there)}: its timestamps look like {second}, those of {_name(here)} like {first}; "
            f"read them apart, or say which with --time-unit."
        )
    return next(iter(units), "s")


def _fragments(head: Head, schema: LogSchema, fragment_bytes: int) -> list[Fragment]:
    if isinstance(head, ParquetHead):
        return parquet.plan_fragments(head)
    text = head.head
    start = text.offset + head.header_bytes
    body = text.text.encode()[head.header_bytes :]
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    if text.complete and not body.strip():
        return []
    row_bytes = max(1.0, len(body) / max(1, lines) / _rows_per_line(head))

    def fragment(begin: int, end: int | None, size: int, first_row: int | None) -> Fragment:
        return Fragment(
            uri=text.file.uri,
            format=head.format,
            version=text.file.version,
            rows=max(1, round(size * text.ratio / row_bytes)),
            bytes=size,
            first_row=first_row,
            start=begin,
            end=end,
            names=head.names if head.format != "jsonl" else (),
            delimiter=head.delimiter,
            compression=text.compression,
        )

    total = text.file.size
    first_line = text.text.encode()[: head.header_bytes].count(b"\n") + 1
    # Inside quotes a line end does not end a row, so such files are not cut.
    if text.compression or (b'"' in body and head.format in ("csv", "inter")):
        return [fragment(start, None, total, first_line)]
    cuts = [start, *range(start + fragment_bytes, total - fragment_bytes // 2, fragment_bytes), total]
    return [
        fragment(begin, None if end == total else end, end - begin, first_line if begin == start else None)
        for begin, end in itertools.pairwise(cuts)
    ]


def _rows_per_line(head: TextLayout) -> float:
    if head.format != "sequences":
        return 1.0
    counts = [len(line.split()) - 1 for line in head.head.text.split("\n") if line.strip()]
    return max(1.0, sum(counts) / max(1, len(counts)))
