"""Detects the columns of delimited text: the delimiter, the quoting, and the header line, if any."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.escapes import unescaped
from distill_at_scale.data.readers.fields import known_names, perhaps
from distill_at_scale.data.readers.headers import holds_data, holds_names, suggested
from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.matrices import refuse_matrix
from distill_at_scale.data.readers.not_tables import (
    refuse_blocks,
    refuse_comma_lines,
    refuse_named_fields,
    refuse_other_width,
    refuse_pairs,
    refuse_preamble,
    refuse_text_before_json,
    row_numbers,
)
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.quoting import Quoting, closes_on_lines, header_in_quotes
from distill_at_scale.data.readers.schema import FileFormat, Quote
from distill_at_scale.data.readers.text import TextHead
from distill_at_scale.errors import DasError
from distill_at_scale.facts import count_of

# Tried in this order: a tab hardly occurs in a field; blanks and colons also occur within times, so they come last.
_DELIMITERS: Final = ("\t", ",", ";", "|", "^", "~", "\x01", "\x1f", " ", ":")
_MOVIELENS: Final = (Columns.USER_ID, Columns.ITEM_ID, Columns.RATING, Columns.TIMESTAMP)
# Hive separates fields so, also in files that are named otherwise; text holds none of these.
_CONTROLS: Final = ("\x01", "\x1f")
TYPED_FIELD: Final = re.compile(r"^[^\s:]+:(token|float|token_seq|float_seq)$")
_COMMA_INSIDE: Final = re.compile(r"^\s*[+-]?[0-9]+,[0-9]+\s*$|, ")
_SNIFFED_LINES: Final = 50
# A title above the header has fewer lines.
_TITLE_LINES: Final = 10


def movielens(head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
    """Detects the layout of lines with ``::`` between fields. Headers are rare in this format, but recognised.

    Raises:
        DasError: The number of fields differs from the number of names.
    """
    names = tuple(options.columns) if options.columns else _MOVIELENS
    rows = [line.split("::") for line in lines]
    first = [field.strip() for field in rows[0]]
    if known_names(first, options.map) >= 2 and not options.columns:
        return _layout(head, "movielens", tuple(first), "::", rows[1:], lines[0], "none", ())
    return _named_by_user(head, lines, rows, names, "movielens", "::", "none", options)


def delimited(
    head: TextHead, lines: Sequence[str], options: LogOptions, chosen: FileFormat, typed: bool, tabs: bool
) -> TextLayout:
    """Detects the layout of lines with a single-character delimiter.

    Args:
        head: First bytes of the file.
        lines: First non-empty lines, without line ends.
        options: Reader options.
        chosen: Name of the format.
        typed: Whether the header gives types, as RecBole's.
        tabs: Whether the file's name implies tabs between fields.

    Raises:
        DasError: The delimiter cannot be detected, or the first line is not a header.
    """
    refuse_preamble(head.name, lines, head.text)
    refuse_pairs(head.name, lines)
    refuse_blocks(head.name, lines, head.text)
    refuse_text_before_json(head.name, lines)
    if options.delimiter is not None:
        delimiter = options.delimiter
    elif typed or (tabs and not any(all(mark in line for line in lines) for mark in _CONTROLS)):
        delimiter = "\t"
    else:
        delimiter = _sniff(head, lines, options)
    quote = _quote(lines, delimiter, options)
    first = Quoting(delimiter, quote, 0).fields(lines[0]) or lines[0].split(delimiter)
    width = len(options.columns) if options.columns and not typed else len(first)
    data = "\n".join(lines).encode()
    if quote != "none":
        data, _ = unescaped(data, delimiter, width)
    rows = Quoting(delimiter, quote, width).rows(data) or [first]
    refuse_named_fields(head.name, rows)
    if options.columns and not typed:
        return _named_by_user(head, lines, rows, tuple(options.columns), chosen, delimiter, quote, options)
    header = [field.strip() if options.quote == "none" else _unquoted(field.strip()) for field in rows[0]]
    if not typed and len(header) > 1 and all(map(TYPED_FIELD.match, header)):
        # RecBole's header, in a file that is not named .inter, or with another delimiter.
        header = [field.rsplit(":", 1)[0] for field in header]
    if typed:
        if not all(TYPED_FIELD.match(field) for field in header):
            raise DasError(
                f"{head.name}: the first line ({lines[0][:80]}) is not a typed .inter header such as "
                f"user_id:token, item_id:token; read it with --format csv if it is a plain table."
            )
        header = [field.rsplit(":", 1)[0] for field in header]
    else:
        _check_header(head, lines, header, rows, options, delimiter)
    refuse_other_width(head.name, header, rows[1:], delimiter)
    noticed = row_numbers(head.name, header, rows[1:], list(options.map.values()))
    return _layout(head, chosen, tuple(header), delimiter, rows[1:], lines[0], quote, tuple(noticed))


def _unquoted(name: str) -> str:
    """Returns a name without its quotes, which stay where a blank is in front of them: "user_id", "item_id"."""
    whole = len(name) > 2 and name[0] == name[-1] and name[0] in "\"'`" and name[0] not in name[1:-1]
    return name[1:-1] if whole else name


def _quote(lines: Sequence[str], delimiter: str, options: LogOptions) -> Quote:
    if options.quote != "auto":
        return "none" if options.quote == "none" else "record"
    if delimiter != "\t":
        return "record"
    if header_in_quotes(lines[0], delimiter):
        return "record"
    # Tab-separated fields need no quotes, so most programs write quotes only as plain characters.
    return "line" if closes_on_lines(lines, delimiter) else "none"


def _check_header(
    head: TextHead,
    lines: Sequence[str],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    options: LogOptions,
    delimiter: str,
) -> None:
    line = lines[0]
    if not options.map:
        refuse_matrix(head.name, head.file.uri.rsplit("/", 1)[-1], header, rows[1:], delimiter)
    named = " (--map takes names of columns, not values)" if set(header) & set(options.map.values()) else ""
    if holds_data(header, rows[1:], options.map):
        other = ", or say --format sequences if each line is a user with the user's items" if delimiter == " " else ""
        raise DasError(
            f"{head.name}: the first line looks like data, not like column names ({line[:80]}); name the columns in "
            f"the file's order: --columns {suggested(rows)} (check which is which){other}{named}."
        )
    if known_names(header, options.map) == 0:
        split = [[field.strip(' "') for field in text.split(delimiter)] for text in lines[:_TITLE_LINES]]
        below = next((k for k, row in enumerate(split) if known_names(row, options.map) >= 2), 0)
        if below:
            number = [text.rstrip("\r") for text in head.text.split("\n")].index(lines[below]) + 1
            raise DasError(
                f"{head.name}: the column names seem to stand below the first line ({line[:60]}), in line {number}; "
                f"remove what is above them, with `tail -n +{number} FILE > ROWS`."
            )
        raise DasError(
            f"{head.name}: the first line ({line[:80]}) names no column for user_id and no other known column; name "
            f"them with --map user_id=COLUMN item_id=COLUMN{perhaps(header)}, or, if that line holds data, all columns "
            f"in the file's order with --columns."
        )


def _named_by_user(
    head: TextHead,
    lines: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: tuple[str, ...],
    chosen: FileFormat,
    delimiter: str,
    quote: Quote,
    options: LogOptions,
) -> TextLayout:
    """Names the columns by ``--columns``; a header line that is present nevertheless is skipped."""
    _check_width(head, rows, names, f"fields between {delimiter!r}")
    first = [field.strip() for field in rows[0]]
    short = len(first) == len(names) - 1 and known_names(first, options.map) >= 2
    if not short and (len(first) != len(names) or not holds_names(first, rows[1:], names)):
        return _layout(head, chosen, names, delimiter, rows, "", quote, ())
    moved = [name for name, given in zip(first, names) if name != given and name in names]
    if moved and not short:
        raise DasError(
            f"{head.name}: the first line names the columns in another order ({lines[0][:80]}) than --columns does "
            f"({' '.join(names)}); leave --columns out, or correct it."
        )
    what = "the first line names the columns, though --columns names them too: it is left out"
    notice = Notice(what=what, count=1, unit="file", example=shown(lines[0]))
    return _layout(head, chosen, names, delimiter, rows[1:], lines[0], quote, (notice,), header=False)


def _layout(
    head: TextHead,
    chosen: FileFormat,
    names: tuple[str, ...],
    delimiter: str,
    rows: Sequence[Sequence[str]],
    header_line: str,
    quote: Quote,
    noticed: tuple[Notice, ...],
    header: bool | None = None,
) -> TextLayout:
    return TextLayout(
        head,
        chosen,
        names,
        delimiter,
        header_bytes(head) if header_line else 0,
        _columns(rows, names),
        header=bool(header_line) if header is None else header,
        header_line=header_line,
        quote=quote,
        noticed=noticed,
    )


def header_bytes(head: TextHead) -> int:
    """Returns the length of the header line, with its end."""
    # Blank lines before the header belong to it.
    skipped = len(head.text) - len(head.text.lstrip("\r\n"))
    end = head.text.find("\n", skipped)
    return len((head.text if end < 0 else head.text[: end + 1]).encode())


def _sniff(head: TextHead, lines: Sequence[str], options: LogOptions) -> str:
    for mark in _CONTROLS:
        if all(mark in line for line in lines):
            return mark
    best, best_score = None, (0, False, False, 0)
    inside = any(_commas_inside(lines[:_SNIFFED_LINES], mark) for mark in (";", "|", "^", "~"))
    for order, delimiter in enumerate(_DELIMITERS):
        rows = [row for row in _split(lines[:_SNIFFED_LINES], delimiter) if row]
        width, times = Counter(map(len, rows)).most_common(1)[0]
        known = 0 if options.columns else known_names([field.strip() for field in rows[0]], options.map)
        if len(rows[0]) < 2 or (known < 2 and (width < 2 or times < 0.8 * len(rows))):
            continue
        fitting = bool(options.columns) and width == len(options.columns or ())
        score = (known + 1, fitting, delimiter != "," or not inside, len(_DELIMITERS) - order)
        if score > best_score:
            best, best_score = delimiter, score
    if best in (None, " ") and sum("  " in line.strip() for line in lines) > len(lines) // 2:
        raise DasError(
            f"{head.name}: runs of blanks separate the fields ({lines[0][:60]}); make each of them one blank, with "
            f"`sed 's/^ *//; s/ *$//' FILE | tr -s ' ' > ROWS`."
        )
    if best is None:
        refuse_comma_lines(head.name, lines)
        raise DasError(
            f"{head.name}: cannot detect the delimiter in the first line ({lines[0][:80]}); "
            f"name it with --delimiter, or the format with --format."
        )
    return best


def _commas_inside(lines: Sequence[str], mark: str) -> bool:
    """Returns whether all commas belong to the fields between ``mark``: in decimal numbers, and before blanks."""
    fields = [line.split(mark) for line in lines]
    if len({len(line) for line in fields}) > 1 or len(fields[0]) < 3 or all("," in field for field in fields[0]):
        return False
    return all("," not in _COMMA_INSIDE.sub("", field) for line in fields for field in line)


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        if sum(line.count('"') for line in lines) % 2 == 0:
            return list(csv.reader(lines, delimiter=delimiter))
        # An unclosed quote must not swallow the lines after it.
        return [next(csv.reader([line], delimiter=delimiter)) for line in lines]
    except csv.Error:
        return [line.split(delimiter) for line in lines]


def _check_width(head: TextHead, rows: Sequence[Sequence[str]], names: Sequence[str], what: str) -> None:
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if width != len(names):
        raise DasError(
            f"{head.name}: the lines have {width} {what} for {count_of(len(names), 'column name')} "
            f"({', '.join(names)}); name all of them with --columns."
        )


def _columns(rows: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, list[Any]]:
    # Neither is a header that comes again a value, which would make text of a column of integers.
    again = [name.lower() for name in names]
    whole = [row for row in rows if len(row) == len(names) and [f.strip("\ufeff \t").lower() for f in row] != again]
    return {name: [row[index] for row in whole] for index, name in enumerate(names)}
