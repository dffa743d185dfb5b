"""Planning, on the driver: lists the files of a log, reads their heads, and agrees on one schema."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers import tables
from distill_at_scale.data.readers.fields import REQUIRED, check_map, has_ids, resolve
from distill_at_scale.data.readers.heads import Sample, file_of, look_at, name_of, read_head
from distill_at_scale.data.readers.jsonl import LATE
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.listing import list_inputs
from distill_at_scale.data.readers.lists import check_lists
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.odd_files import odd_files
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.other_tables import each_of
from distill_at_scale.data.readers.partitions import partition_values
from distill_at_scale.data.readers.rating_text import check_ratings
from distill_at_scale.data.readers.schema import Fragment, LogEstimate, LogSchema, ReadAs, TextType
from distill_at_scale.data.readers.selection import check_weight, find_conditions, map_of
from distill_at_scale.data.readers.tables import TableHead
from distill_at_scale.data.readers.time_units import Times, common_zone, find_rule
from distill_at_scale.data.readers.types import id_kind, number_kind
from distill_at_scale.data.readers.unread import unread_clocks, unread_columns, unread_labels, unread_splits
from distill_at_scale.data.times import TimeRule
from distill_at_scale.errors import DasError

TEXT_FRAGMENT_BYTES: Final = 64 << 20
_THREADS: Final = 16
_LEAST_PAIRS: Final = 20
_NUMBER: Final = re.compile("([0-9]+)")

Partitions = dict[str, str | None]


def plan_log(
    options: LogOptions,
    want_split: bool = False,
    fragment_bytes: int = TEXT_FRAGMENT_BYTES,
    remedy: str | None = None,
) -> tuple[LogSchema, list[Fragment], LogEstimate]:
    """Lists a log's files and decides how to read them, from their footers and first lines only.

    Args:
        options: Reader options.
        want_split: Whether the log's own ``split`` column is read, and hence required.
        fragment_bytes: Approximate size of a fragment of an uncompressed text file, in bytes.
        remedy: What to do about a missing column, as the end of a sentence. Default: the ``--map`` to use.

    Returns:
        The schema of all fragments; the fragments, ordered by file and position; sizes and skipped files.
        The list of fragments is empty if the files hold only headers.

    Raises:
        DasError: No files match, all are empty, a file cannot be read, a column is missing, ambiguous or differs
            between files, or a type cannot be determined.
    """
    check_map(options.map)
    options = options.model_copy(update={"map": map_of(options)})
    files, left_out = list_inputs(options.input)
    skipped = [(storage.redact(file.uri), "the file is empty") for file in files if not file.size]
    files = [file for file in files if file.size]
    with ThreadPoolExecutor(_THREADS) as pool:
        results = each_of(
            lambda file: read_head(file, options),
            files,
            [file.uri for file in files],
            pool.map,
            lambda head: head is not None and has_ids(head.names, options.map),
        )
    skipped += [(storage.redact(f.uri), "the file holds no line") for f, head in zip(files, results) if head is None]
    heads = [head for head in results if head is not None]
    if not heads:
        raise DasError(f"{_listed([name for name, _ in skipped])}: all input files are empty; nothing to read.")

    folders = [partition_values(file_of(head).uri) for head in heads]
    places = [
        (name_of(head), [*head.names, *(v for v in values if v not in head.names)])
        for head, values in zip(heads, folders)
    ]
    check_weight(options, places)
    columns = each_of(
        lambda pair: resolve(pair[0].names, options.map, want_split, name_of(pair[0]), tuple(pair[1]), remedy),
        list(zip(heads, folders)),
        [file_of(head).uri for head in heads],
    )
    _check_agreement(heads, columns)
    conditions, extra = find_conditions(options, places, columns[0])
    # A file's own column takes precedence over a partition column of the same name.
    partitions = [
        {name: values[name] for name in (*own.values(), *extra.values()) if name in values and name not in head.names}
        for head, own, values in zip(heads, columns, folders)
    ]
    for head, own, values in zip(heads, columns, partitions):
        if isinstance(head, TableHead):
            tables.check_types(head, {c: name for c, name in own.items() if name not in values})
            tables.check_compared(head, [c.name for c in conditions if c.name not in values], own.values())
    check_ratings(heads, columns[0].get(Columns.RATING), partitions)
    with ThreadPoolExecutor(_THREADS) as pool:
        samples = list(pool.map(look_at, heads, columns, partitions))
    schema, odd_values = _schema(options, heads, columns[0], partitions, samples)
    schema = schema.model_copy(
        update={
            "extra": extra,
            "conditions": tuple(conditions),
            "text_types": {**schema.text_types, **_compared_types(heads, extra)},
        }
    )

    fragments: list[Fragment] = []
    size = 0
    for head, values, sample in zip(heads, partitions, samples):
        pieces = format_of(head).plan(head, fragment_bytes, values, sample.rows_per_row)
        fragments += pieces
        if pieces:
            size += file_of(head).size
        else:
            skipped.append((name_of(head), "the file has column names but no rows"))
    counted = all(isinstance(head, TableHead) for head in heads) and all(s.rows_per_row == 1 for s in samples)
    lookalikes = unread_columns(heads, set(schema.read.values()), schema.columns, _given(options, schema))
    estimate = LogEstimate(
        files=len({fragment.uri for fragment in fragments}),
        rows=sum(fragment.rows for fragment in fragments),
        exact=counted and all(format_of(head).counted for head in heads),
        bytes=size,
        timed=Columns.TIMESTAMP in schema.columns and not any(format_of(head).positions for head in heads),
        skipped=tuple(skipped),
        noticed=tuple(
            merge(
                [
                    left_out,
                    _skips(skipped),
                    odd_values,
                    _file_order(heads) if schema.positions else [],
                    _sorted_items(heads, columns[0]) if schema.positions else [],
                    odd_files(heads, columns[0], folders, schema),
                    lookalikes.values(),
                    unread_splits(heads, set(schema.read.values()), options.map),
                    unread_clocks(heads, set(schema.read.values()), schema.columns),
                    unread_labels(heads, set(schema.read.values()), schema.columns),
                ]
            )
        ),
        lookalikes=lookalikes,
        read_as=_read_as(heads),
    )
    return schema, fragments, estimate


def _read_as(heads: Sequence[Head]) -> tuple[ReadAs, ...]:
    ways = Counter(
        ReadAs(format=head.format)
        if isinstance(head, TableHead)
        else ReadAs(format=head.format, delimiter=head.delimiter, header=head.header, quote=head.quote)
        for head in heads
    )
    return tuple(way.model_copy(update={"files": files}) for way, files in ways.items())


def _given(options: LogOptions, schema: LogSchema) -> set[str]:
    """Returns the canonical columns that need no search: the user named or ignored them, or something replaces them."""
    return {
        *options.map,
        *([Columns.RATING] if schema.has_rating else []),
        *([Columns.TIMESTAMP] if schema.has_timestamp else []),
    }


def _skips(skipped: Sequence[tuple[str, str]]) -> list[Notice]:
    return [Notice(what=f"skipped: {why}", count=1, unit="file", example=name) for name, why in skipped]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_agreement(heads: Sequence[Head], columns: Sequence[dict[str, str]]) -> None:
    """Checks that all files have the columns that are read, under the same names."""
    usual = Counter(tuple(sorted(own.items())) for own in columns).most_common(1)[0][0]
    for head, own in zip(heads, columns):
        if tuple(sorted(own.items())) != usual:
            own_names = ", ".join(own.values())
            other_names = ", ".join(dict(usual).values())
            differing = {canonical for canonical, _ in set(usual) ^ set(own.items())} - set(REQUIRED)
            without = " ".join(f"--map {name}=" for name in Columns.LOG if name in differing)
            raise DasError(
                f"{name_of(head)}: its columns ({own_names}) differ from those of the other files ({other_names}); "
                + (
                    f"read it separately, or ignore the columns that some files lack with {without} (empty)."
                    if without
                    else "read it separately, or give all files the same column names."
                )
            )


def _schema(
    options: LogOptions,
    heads: Sequence[Head],
    columns: dict[str, str],
    partitions: Sequence[Partitions],
    samples: Sequence[Sample],
) -> tuple[LogSchema, list[Notice]]:
    id_types: dict[str, Literal["int64", "string"]] = {}
    text_types: dict[str, Literal["int", "float", "string"]] = {}
    layouts = [head for head in heads if isinstance(head, TextLayout)]
    for canonical, name in columns.items():
        kinds = {number_kind(layout.samples.get(name, []), format_of(layout).keyed) for layout in layouts} - {None}
        text_types[canonical] = "string" if not kinds or "string" in kinds else "float" if "float" in kinds else "int"
    hex_ids = frozenset[str]().union(*(sample.hex_ids for sample in samples))
    noticed: list[Notice] = []
    for canonical in REQUIRED:
        name = columns[canonical]
        for layout in layouts:
            values = layout.samples.get(name, [])
            noticed += check_lists(values, canonical, name, name_of(layout), options.id_type)
        ids = {_id_kind(head, name, values) for head, values in zip(heads, partitions)} - {None}
        as_int = ids == {"int"} if options.id_type == "auto" else options.id_type == "int"
        id_types[canonical] = "int64" if as_int else "string"
        # Floats would lose digits of ids too large for 64 bits.
        text_types[canonical] = "int" if text_types[canonical] == "int" else "string"
    rule, zone, odd_times = _times(options, heads, columns, samples)
    if rule.unit == "format" and text_types.get(Columns.TIMESTAMP) == "int" and not _typed_numbers(heads):
        # As an integer, 01022020 would lose the leading zero of its day.
        text_types[Columns.TIMESTAMP] = "string"
    schema = LogSchema.model_validate(
        {
            "columns": columns,
            "id_types": id_types,
            "time_unit": rule.unit,
            "time_format": rule.format,
            "time_zone": zone,
            "time_checked": rule.checked,
            "hex_ids": tuple(sorted(hex_ids)),
            "text_types": text_types,
            "positions": _positions(options, heads, columns),
            "unread": tuple(c for c in LATE if c not in columns and c not in options.map),
        }
    )
    return schema, [*noticed, *odd_times]


def _compared_types(heads: Sequence[Head], extra: dict[str, str]) -> dict[str, TextType]:
    """Returns the JSON types of columns that are only compared; fields of other text formats stay text."""
    types: dict[str, TextType] = {}
    for key, name in extra.items():
        values = [value for head in heads if isinstance(head, TextLayout) for value in head.samples.get(name, [])]
        present = [value for value in values if value is not None]
        booleans = bool(present) and all(isinstance(value, bool) for value in present)
        types[key] = "bool" if booleans else number_kind(present, True) or "string"
    return types


def _typed_numbers(heads: Sequence[Head]) -> bool:
    """Returns whether a format distinguishes numbers from text, so that numbers have no leading zeros to lose."""
    return any(format_of(head).keyed for head in heads)


def _times(
    options: LogOptions, heads: Sequence[Head], columns: dict[str, str], samples: Sequence[Sample]
) -> tuple[TimeRule, str | None, list[Notice]]:
    name = columns.get(Columns.TIMESTAMP)
    if name is None or any(format_of(head).positions for head in heads):
        return TimeRule("ms"), None, []
    files = [Times(sample.times or [], sample.typed, name_of(head), name) for head, sample in zip(heads, samples)]
    rule, noticed = find_rule(files, options.time_unit, options.time_format)
    return rule, common_zone(files, rule), noticed


def _positions(options: LogOptions, heads: Sequence[Head], columns: dict[str, str]) -> bool:
    if options.order == "time":
        return False
    if any(format_of(head).positions for head in heads):
        raise DasError("--order file: the lines of sequences already hold the items in order; omit --order.")
    if Columns.TIMESTAMP in columns:
        raise DasError(
            f"--order file: the log has times, in the column '{columns[Columns.TIMESTAMP]}'; omit --order, or "
            f"ignore them with --map timestamp= (empty)."
        )
    return True


def _file_order(heads: Sequence[Head]) -> list[Notice]:
    """The order of files that stands for time, which nobody sees otherwise."""
    if len(heads) < 2:
        return []
    names = [name_of(head).rsplit("/", 1)[-1] for head in heads]
    by_number = sorted(
        names, key=lambda name: [int(part) if part.isdecimal() else part for part in _NUMBER.split(name)]
    )
    what = "follow each other as listed, which stands for their order in time (--order file)"
    moved = next(((name, other) for name, other in zip(names, by_number) if name != other), None)
    if moved:
        what += f"; by their numbers, {moved[1]} would come before {moved[0]}: give them one by one if that is meant"
    return [Notice(what=what, count=len(names), unit="file", example=", ".join(names[:4]) + (", …" * (len(names) > 4)))]


def _sorted_items(heads: Sequence[Head], columns: dict[str, str]) -> list[Notice]:
    """Files whose first rows are sorted by user and item, an order that carries no time."""
    odd = []
    for head in heads:
        if isinstance(head, TextLayout):
            pairs = list(zip(*(head.samples.get(columns[name], []) for name in REQUIRED)))
            texts = [str(item) for _, item in pairs]
            numbers = all(map(str.isdecimal, texts))
            items: list[Any] = [int(text) for text in texts] if numbers else texts
            keys = [(user, item) for (user, _), item in zip(pairs, items)]
            same = [one[1] <= two[1] for one, two in itertools.pairwise(keys) if one[0] == two[0]]
            if len(same) >= _LEAST_PAIRS and all(same):
                odd.append(name_of(head))
    if not odd:
        return []
    what = "each user's first items are sorted by id, an order that carries no time (use --split 20_percent_hist)"
    return [Notice(what=what, count=len(odd), unit="file", example=odd[0])]


def _id_kind(head: Head, name: str, partitions: Partitions) -> str | None:
    if name in partitions:
        return id_kind([partitions[name]], typed=False)
    if isinstance(head, TableHead):
        return tables.id_kind(head, name)
    return id_kind(head.samples.get(name, []), format_of(head).keyed)
