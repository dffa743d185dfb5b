"""Detects the format of a text file, from its name, its first bytes or the user's options, and parses its first
rows."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.delimited_layout import TYPED_FIELD, delimited, movielens
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.data.readers.json_values import field_names, value_at
from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import FileFormat
from distill_at_scale.data.readers.sequences import tokens
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
_SEQUENCES: Final = (Columns.USER_ID, Columns.ITEM_ID, Columns.TIMESTAMP)
_SAMPLE_LINES: Final = 1000
_BESIDES: Final = re.compile(r"[,;|\t]")


def find_layout(head: TextHead, options: LogOptions) -> TextLayout | None:
    """Detects a text file's layout; None if it has no lines.

    Raises:
        DasError: The format or delimiter cannot be detected, or the first lines do not match it.
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
        return _jsonl(head, lines, options)
    if chosen == "sequences":
        return _sequences(head, lines)
    if chosen == "movielens":
        return movielens(head, lines, options)
    return delimited(head, lines, options, "inter" if chosen == "inter" else "csv", _suffix(head.file.uri) == "tsv")


def _guess(head: TextHead, lines: Sequence[str], options: LogOptions) -> FileFormat:
    first = lines[0].lstrip()
    if first.startswith("{"):
        return "jsonl"
    if first.startswith("["):
        if _is_row(lines[0]):
            raise DasError(
                f"{head.name}: each line is a JSON array, without the names of its values ({lines[0][:60]}); write CSV "
                f"with `jq -r @csv FILE.json > FILE.csv`, and name the columns with --columns."
            )
        raise DasError(
            f"{head.name}: this looks like a JSON array; write one object per line (JSON lines) instead, "
            f"e.g. with `jq -c '.[]' FILE.json > FILE.jsonl`."
        )
    suffix = _suffix(head.file.uri)
    if suffix in _BY_NAME:
        return _BY_NAME[suffix]
    if all(TYPED_FIELD.match(field) for field in lines[0].split("\t")):
        return "inter"
    if all("::" in line for line in lines):
        return "movielens"
    if not options.columns and options.delimiter is None and _look_like_sequences(head, lines, options):
        return "sequences"
    return "csv"


def _suffix(uri: str) -> str:
    name = re.sub(r"\.(gz|gzip|zst|zstd|bz2|xz|lz4)$", "", uri.rsplit("/", 1)[-1].lower())
    return name.rsplit(".", 1)[-1] if "." in name else ""


def _look_like_sequences(head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
    """Returns whether every line is a user with items: lines vary in length and do not begin with a header."""
    fields = [tokens(line) for line in lines]
    if known_names(fields[0], options.map) >= 2 or any(map(_BESIDES.search, lines)):
        return False
    lengths = Counter(len(line) for line in fields if len(line) > 1)
    if 2 * lengths.total() <= len(lines):
        return False
    width, times = lengths.most_common(1)[0]
    if times >= 0.8 * lengths.total():
        return False
    if times >= 0.6 * lengths.total():
        raise DasError(
            f"{head.name}: {times:,} of the first {lengths.total():,} lines have {width} fields separated by blanks, "
            f"the others more or fewer; specify whether this is a table (--delimiter ' ') or one line per user with "
            f"the user's items (--format sequences)."
        )
    whole = [line for line in fields if line]
    users = {line[0] for line in whole}
    if not all(any(map(str.isdigit, token)) for line in whole for token in line) or 2 * len(users) < len(whole):
        raise DasError(
            f"{head.name}: the lines between blanks differ in length, but do not look like a user with the user's "
            f"items ({lines[0][:60]}); if they are, say --format sequences, or name what they are with --format."
        )
    return True


def _sequences(head: TextHead, lines: Sequence[str]) -> TextLayout:
    split = [tokens(line) for line in lines]
    samples: dict[str, list[Any]] = {
        Columns.USER_ID: [line[0] for line in split],
        Columns.ITEM_ID: [item for line in split for item in line[1:]][:_SAMPLE_LINES],
    }
    what = "no times: an item's position in its line stands for the time, which leave_2 and temporal split by"
    if _sorted_by_id(split):
        what += "; the items of every line are sorted by id, which carries no time (use --split 20_percent_hist)"
    notice = Notice(what=what, count=1, unit="file", example=head.name)
    return TextLayout(head, "sequences", _SEQUENCES, None, 0, samples, noticed=(notice,))


def _sorted_by_id(split: Sequence[Sequence[str]]) -> bool:
    longer = [line[1:] for line in split if len(line) > 3]
    if len(longer) < 5 or not all(item.isdecimal() for line in longer for item in line):
        return False
    return all(int(a) <= int(b) for line in longer for a, b in itertools.pairwise(line))


def _jsonl(head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
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
    if not objects and lines[0].rstrip().endswith("},"):
        raise DasError(
            f"{head.name}: the lines end in commas, as in a JSON array without its brackets; remove them with "
            f"`sed 's/,[[:space:]]*$//' FILE.json > FILE.jsonl`."
        )
    if not objects and lines[0].startswith("\x1e"):
        raise DasError(
            f"{head.name}: a record separator stands before each object (RFC 7464); remove it with "
            f"`tr -d '\\036' < FILE.json > FILE.jsonl`."
        )
    if not objects:
        raise DasError(
            f"{head.name}: none of the first lines is a JSON object; write one object per line, such as with "
            f"`jq -c . FILE.json > FILE.jsonl`, or name the right format with --format."
        )
    names = field_names(objects)
    _refuse_wrapped(head, objects, options)
    if not head.complete or len(lines) > _SAMPLE_LINES:
        # Later objects may have more keys; the user may know of them.
        known = (*options.map.values(), *options.where, options.event_column)
        names += tuple(name for name in dict.fromkeys(known) if name and name not in names)
    samples = {name: [value_at(value, name) for value in objects] for name in names}
    return TextLayout(head, "jsonl", names, None, 0, samples)


def _refuse_wrapped(head: TextHead, objects: Sequence[dict[str, Any]], options: LogOptions) -> None:
    """Refuses one object that holds all the rows, as {"data": [{…}, …]}."""
    if len(objects) > 1 or not head.complete or known_names(tuple(objects[0]), options.map):
        return
    for key, value in objects[0].items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            raise DasError(
                f"{head.name}: one object holds all rows, in the array '{key}'; write one object per line, with "
                f"`jq -c '.{key}[]' FILE.json > FILE.jsonl`."
            )


def _is_row(line: str) -> bool:
    """Returns whether a line is a whole JSON array of several simple values."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and len(value) > 1 and not any(isinstance(one, dict | list) for one in value)


def _python_dicts(lines: Sequence[str]) -> bool:
    try:
        return isinstance(ast.literal_eval(lines[0]), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
