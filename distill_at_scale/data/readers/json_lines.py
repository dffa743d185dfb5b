"""JSON lines: one object per line."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.fields import known_as, known_names
from distill_at_scale.data.readers.json_values import field_names, value_at
from distill_at_scale.data.readers.jsonl import parse_jsonl
from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.lists import refuse_arrays
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.data.readers.text import TextHead
from distill_at_scale.data.readers.text_format import SAMPLE_LINES, TextFormat
from distill_at_scale.errors import DasError


class JsonLines(TextFormat):
    """One JSON object per line; fields of nested objects are named by their path."""

    name, endings, keyed = "jsonl", ("jsonl", "ndjson", "json"), True

    def begins(self, head: TextHead, lines: Sequence[str]) -> bool:
        """Looks for the first bracket; an array is refused, with what makes lines of it."""
        first = lines[0].lstrip()
        if first.startswith("["):
            _refuse_array(head, lines)
        return first.startswith("{")

    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Collects the fields of the first objects."""
        return _layout(head, lines, options)

    def parse(self, block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
        """Parses one block of objects."""
        return parse_jsonl(block, fragment, schema)


JSON_LINES = JsonLines()
# Objects around the array of rows.
_DEEPEST: Final = 3


def _refuse_array(head: TextHead, lines: Sequence[str]) -> NoReturn:
    if _is_row(lines[0]):
        raise DasError(
            f"{head.name}: each line is a JSON array, without the names of its values ({lines[0][:60]}); write CSV "
            f"with `jq -r @csv FILE.json > FILE.csv`, and name the columns with --columns."
        )
    raise DasError(
        f"{head.name}: this looks like a JSON array; write one object per line (JSON lines) instead, "
        f"e.g. with `jq -c '.[]' FILE.json > FILE.jsonl`."
    )


def _layout(head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
    objects = []
    for line in lines[:SAMPLE_LINES]:
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
    if not objects and lines[0].startswith(('"{', '"[')):
        raise DasError(
            f"{head.name}: each line is text that holds JSON ({lines[0][:60]}); take the objects out of it with "
            f"`jq -c fromjson FILE.json > FILE.jsonl`."
        )
    if not objects:
        raise DasError(
            f"{head.name}: none of the first lines is a JSON object; write one object per line, such as with "
            f"`jq -c . FILE.json > FILE.jsonl`, or name the right format with --format."
        )
    _refuse_wrapped(head, objects, options)
    _refuse_paths_into_arrays(head, objects, options)
    names = field_names(objects)
    _refuse_rows_in_arrays(head, objects, names, options)
    if not head.complete or len(lines) > SAMPLE_LINES:
        # Later objects may have more keys; the user may know of them.
        known = (*options.map.values(), *options.where, options.event_column)
        names += tuple(name for name in dict.fromkeys(known) if name and name not in names)
    samples = {name: [value_at(value, name) for value in objects] for name in names}
    return TextLayout(head, "jsonl", names, None, 0, samples)


def _refuse_rows_in_arrays(
    head: TextHead, objects: Sequence[dict[str, Any]], names: Sequence[str], options: LogOptions
) -> None:
    """Refuses objects of users whose rows are objects in an array, as {"user_id": 1, "items": [{…}, …]}."""
    known = {known_as(name) for name in names} | set(options.map)
    if Columns.USER_ID in known and Columns.ITEM_ID in known:
        return
    for key, value in objects[0].items():
        if (
            isinstance(value, list)
            and value
            and all(isinstance(row, dict) for row in value)
            and (known_names(value[0], {}) or (len(value[0]) > 1 and Columns.ITEM_ID not in known))
        ):
            raise DasError(
                f"{head.name}: the field '{key}' of each object holds rows of its own, in an array; write one object "
                f"per row, with `jq -c 'del(.{key}) + .{key}[]' FILE.json > FILE.jsonl`."
            )


def _refuse_wrapped(head: TextHead, objects: Sequence[dict[str, Any]], options: LogOptions) -> None:
    """Refuses one object that holds all the rows, as {"data": [{…}, …]}."""
    if len(objects) > 1 or not head.complete:
        return
    values = list(objects[0].values())
    if len(values) > 1 and all(_is_column(value) for value in values):
        raise DasError(
            f"{head.name}: one object holds the columns of a table, as pandas writes it; convert it with "
            f"`python -c \"import pandas as pd; pd.read_json('FILE.json').to_csv('FILE.csv', index=False)\"`."
        )
    if isinstance(objects[0].get("columns"), list) and isinstance(objects[0].get("data"), list):
        raise DasError(
            f"{head.name}: one object holds the columns and the data of a table, as pandas writes it; convert it with "
            f"`python -c \"import pandas as pd; pd.read_json('FILE.json', orient='split').to_csv('FILE.csv', "
            f'index=False)"`.'
        )
    if known_names(tuple(objects[0]), options.map):
        return
    path = _path_of_rows(objects[0])
    if path:
        raise DasError(
            f"{head.name}: one object holds all rows, in the array '{path}'; write one object per line, with "
            f"`jq -c '.{path}[]' FILE.json > FILE.jsonl`."
        )
    if len(values) > 2 and all(isinstance(value, dict) and value for value in values):
        inner = [one for value in values for one in value.values()]
        if all(isinstance(one, int | float) for one in inner):
            raise DasError(
                f"{head.name}: one object holds an object for each key ({next(iter(objects[0]))[:40]} …), as of a "
                f"user's ratings by item; write a row for each, with `jq -r 'to_entries[] | .key as $u | .value | "
                f"to_entries[] | [$u, .key, .value] | @csv' FILE.json > FILE.csv`, and name the columns with --columns "
                f"user_id item_id rating."
            )
    if len(values) > 2 and all(isinstance(value, list) and not any(map(_is_nested, value)) for value in values):
        raise DasError(
            f"{head.name}: one object holds a list for each key ({next(iter(objects[0]))[:40]} …), as of a user's "
            f"items; write a row for each, with `jq -r 'to_entries[] | .key as $u | .value[] | [$u, .] | @csv' "
            f"FILE.json > FILE.csv`, and name the columns with --columns user_id item_id."
        )


def _path_of_rows(value: dict[str, Any], depth: int = 1) -> str:
    """Returns the path to the array of objects in an object, or in the objects in it; empty if there is none."""
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            return key
        if isinstance(inner, dict) and depth < _DEEPEST and (path := _path_of_rows(inner, depth + 1)):
            return f"{key}.{path}"
    return ""


def _is_column(value: Any) -> bool:
    """Returns whether a value is a column of a table: an object with a value for each row, by number."""
    return isinstance(value, dict) and bool(value) and list(value) == [str(k) for k in range(len(value))]


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _refuse_paths_into_arrays(head: TextHead, objects: Sequence[dict[str, Any]], options: LogOptions) -> None:
    """Refuses a column that is given as a field of an array, as events.item_id of {"events": [{"item_id": 7}]}."""
    for canonical, name in options.map.items():
        for parent in (name[:at] for at, sign in enumerate(name) if sign == "."):
            if any(isinstance(value_at(one, parent), list) for one in objects) and not any(
                value_at(one, name) is not None for one in objects
            ):
                refuse_arrays([value_at(one, parent) or [] for one in objects], canonical, parent, head.name)


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
