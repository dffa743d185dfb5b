"""Which format a file has: by its name and its first bytes, or as the user says; and its first rows."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import FileFormat
from distill_at_scale.data.readers.text import TextHead
from distill_at_scale.errors import DasError

_BY_NAME: Final[dict[str, FileFormat]] = {
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "inter": "inter",
}
# Tried in this order: a blank or a colon also stands inside times, so the others go first.
_DELIMITERS: Final = (",", "\t", ";", "|", "^", "~", "\x1f", " ", ":")
_MOVIELENS: Final = (Columns.USER_ID, Columns.ITEM_ID, Columns.RATING, Columns.TIMESTAMP)
_SEQUENCES: Final = (Columns.USER_ID, Columns.ITEM_ID, Columns.TIMESTAMP)
_TYPED_FIELD: Final = re.compile(r"^[^\s:]+:(token|float|token_seq|float_seq)$")
_NUMBER: Final = re.compile(r"^-?[0-9]+(\.[0-9]+)?$")
_SAMPLE_LINES: Final = 1000
_SNIFFED_LINES: Final = 50


@dataclass(frozen=True)
class TextLayout:
    """How a text file is written, and its first rows.

    Attributes:
        head: its first bytes.
        format: its format.
        names: its columns, in order (of JSON lines: the keys of the first objects).
        delimiter: between fields.
        header_bytes: length of the header line.
        samples: column → its first values, text or (JSON) numbers too.
        header: whether the first line names the columns; None where the format has no such line.
        noticed: what is odd about the file as a whole.
    """

    head: TextHead
    format: FileFormat
    names: tuple[str, ...]
    delimiter: str | None
    header_bytes: int
    samples: dict[str, list[Any]]
    header: bool | None = None
    noticed: tuple[Notice, ...] = ()


def find_layout(head: TextHead, options: LogOptions) -> TextLayout | None:
    """Recognises a text file's layout; None when it has no line at all.

    Raises:
        DasError: the format or delimiter cannot be told, or the first lines do not fit it.
    """
    lines = [line.rstrip("\r") for line in head.text.split("\n") if line.strip()][: _SAMPLE_LINES + 1]
    if not lines:
        if head.text or head.complete:
            return None
        raise DasError(f"{head.name}: the first line is too long for a header; name the format with --format.")
    chosen = (
        options.format if options.format not in ("auto", "parquet", "arrow", "orc") else _guess(head, lines, options)
    )
    if chosen == "jsonl":
        return _jsonl(head, lines)
    if chosen == "sequences":
        tokens = [line.split() for line in lines]
        samples: dict[str, list[Any]] = {
            Columns.USER_ID: [t[0] for t in tokens],
            Columns.ITEM_ID: [item for t in tokens for item in t[1:]][:_SAMPLE_LINES],
        }
        return TextLayout(head, "sequences", _SEQUENCES, None, 0, samples)
    if chosen == "movielens":
        return _movielens(head, lines, options)
    return _delimited(head, lines, options, "inter" if chosen == "inter" else "csv")


def _guess(head: TextHead, lines: Sequence[str], options: LogOptions) -> FileFormat:
    first = lines[0].lstrip()
    if first.startswith("{"):
        return "jsonl"
    if first.startswith("["):
        raise DasError(
            f"{head.name}: this looks like a JSON array; write one object per line (JSON lines) instead, "
            f"e.g. with `jq -c '.[]' FILE.json > FILE.jsonl`."
        )
    suffix = _suffix(head.file.uri)
    if suffix in _BY_NAME:
        return _BY_NAME[suffix]
    if all(_TYPED_FIELD.match(field) for field in lines[0].split("\t")):
        return "inter"
    if all("::" in line for line in lines):
        return "movielens"
    if not options.columns and options.delimiter is None and _look_like_sequences(lines):
        return "sequences"
    return "csv"


def _suffix(uri: str) -> str:
    name = re.sub(r"\.(gz|gzip|zst|zstd|bz2|xz|lz4)$", "", uri.rsplit("/", 1)[-1].lower())
    return name.rsplit(".", 1)[-1] if "." in name else ""


def _look_like_sequences(lines: Sequence[str]) -> bool:
    lengths = [len(line.split()) for line in lines]
    several = 2 * sum(length > 1 for length in lengths) > len(lengths)
    return several and len(set(lengths)) > 1 and not any(re.search(r"[,;|\t]", line) for line in lines)


def _jsonl(head: TextHead, lines: Sequence[str]) -> TextLayout:
    objects = []
    for line in lines[:_SAMPLE_LINES]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            objects.append(value)
    if not objects and _python_dicts(lines):
        raise DasError(
            f"{head.name}: the lines are Python dictionaries, not JSON; convert them with "
            f'`python -c "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in sys.stdin]" '
            f"< FILE.json > FILE.jsonl`."
        )
    if not objects:
        raise DasError(
            f"{head.name}: none of the first lines is a JSON object; write one object per line, "
            f"or name the right format with --format."
        )
    names = tuple(dict.fromkeys(key for value in objects for key in value))
    samples = {name: [value.get(name) for value in objects] for name in names}
    return TextLayout(head, "jsonl", names, None, 0, samples)


def _python_dicts(lines: Sequence[str]) -> bool:
    try:
        return isinstance(ast.literal_eval(lines[0]), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _movielens(head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
    names = tuple(options.columns) if options.columns else _MOVIELENS
    rows = [line.split("::") for line in lines[:_SAMPLE_LINES]]
    _check_width(head, rows, names, "fields between '::'")
    return TextLayout(head, "movielens", names, "::", 0, _columns(rows, names))


def _delimited(head: TextHead, lines: Sequence[str], options: LogOptions, chosen: FileFormat) -> TextLayout:
    if options.delimiter is not None:
        delimiter = options.delimiter
    elif chosen == "inter" or _suffix(head.file.uri) == "tsv":
        delimiter = "\t"
    else:
        delimiter = _sniff(head, lines, options)
    rows = [row for row in _split(lines, delimiter) if row]
    if options.columns and chosen != "inter":
        names = tuple(options.columns)
        _check_width(head, rows, names, f"fields between {delimiter!r}")
        return TextLayout(head, chosen, names, delimiter, 0, _columns(rows, names), header=False)
    header = [field.strip() for field in rows[0]]
    if all(_NUMBER.match(field) for field in header):
        raise DasError(
            f"{head.name}: the first line ({lines[0][:80]}) holds data, not column names; "
            f"name the columns with --columns user_id,item_id,rating,timestamp (in the file's order)."
        )
    if chosen == "inter":
        if not all(_TYPED_FIELD.match(field) for field in header):
            raise DasError(
                f"{head.name}: the first line ({lines[0][:80]}) is no typed .inter header such as "
                f"user_id:token, item_id:token; read it with --format csv if it is a plain table."
            )
        header = [field.rsplit(":", 1)[0] for field in header]
    names = tuple(header)
    return TextLayout(head, chosen, names, delimiter, _header_bytes(head), _columns(rows[1:], names), header=True)


def _header_bytes(head: TextHead) -> int:
    # Blank lines before the header belong to it.
    skipped = len(head.text) - len(head.text.lstrip("\r\n"))
    end = head.text.find("\n", skipped)
    return len((head.text if end < 0 else head.text[: end + 1]).encode())


def _sniff(head: TextHead, lines: Sequence[str], options: LogOptions) -> str:
    best, best_score = None, (0, 0)
    for order, delimiter in enumerate(_DELIMITERS):
        rows = [row for row in _split(lines[:_SNIFFED_LINES], delimiter) if row]
        width, times = Counter(map(len, rows)).most_common(1)[0]
        known = 0 if options.columns else known_names([field.strip() for field in rows[0]], options.map)
        if len(rows[0]) < 2 or (known < 2 and (width < 2 or times < 0.8 * len(rows))):
            continue
        score = (known + 1, len(_DELIMITERS) - order)
        if score > best_score:
            best, best_score = delimiter, score
    if best is None:
        raise DasError(
            f"{head.name}: no delimiter between fields can be found in the first line ({lines[0][:80]}); "
            f"name it with --delimiter, or the format with --format."
        )
    return best


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        if sum(line.count('"') for line in lines) % 2 == 0:
            return list(csv.reader(lines, delimiter=delimiter))
        # A quote without its twin must not swallow the lines behind it.
        return [next(csv.reader([line], delimiter=delimiter)) for line in lines]
    except csv.Error:
        return [line.split(delimiter) for line in lines]


def _check_width(head: TextHead, rows: Sequence[Sequence[str]], names: Sequence[str], what: str) -> None:
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if width != len(names):
        raise DasError(
            f"{head.name}: the lines have {width} {what}, but there are {len(names)} column names "
            f"({', '.join(names)}); name all of them with --columns."
        )


def _columns(rows: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, list[Any]]:
    whole = [row for row in rows if len(row) == len(names)]
    return {name: [row[index] for row in whole] for index, name in enumerate(names)}
