"""Refuses a rating column that mostly holds text, such as ``5 stars``, before the log is read in vain."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from distill_at_scale.data.ids import NO_ID, NULL_LIKE
from distill_at_scale.data.readers.heads import file_of, first_values, name_of
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.other_tables import each_of
from distill_at_scale.data.readers.tables import TableHead, field_type
from distill_at_scale.errors import DasError

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+")
# One number, possibly of a largest one: 5 stars, $4.50, 80%, 4/5, 4 out of 5.
_INSIDE: Final = re.compile(r"[^-+0-9.,]*[0-9]+(\.[0-9]+)?( ?(/|of|out of) ?[0-9]+)?[^0-9]*")
# With more distinct texts, they are no kinds of feedback.
_MOST_KINDS: Final = 12
_AGAINST: Final = ("false", "no", "n", "f", "dislike", "disliked", "down", "bad", "negative", "not recommended")
_POLARS: Final = (
    "python -c \"import polars as pl; pl.{read}.with_columns(pl.col('{column}').{change}).write_{kind}('ROWS')\""
)


def check_ratings(heads: Sequence[Head], name: str | None, partitions: Sequence[dict[str, str | None]]) -> None:
    """Rejects files whose first ratings are mostly no numbers.

    Args:
        heads: Heads of all files.
        name: Column that is read as rating; None if none is.
        partitions: Columns that come from the folders of each file.

    Raises:
        DasError: Names the file, the column and what makes numbers of it.
    """
    if name is not None:
        own = [head for head, values in zip(heads, partitions) if name not in values]
        each_of(lambda head: _check(head, name), own, [file_of(head).uri for head in own])


def _check(head: Head, name: str) -> None:
    if isinstance(head, TableHead):
        dtype, _ = field_type(head.schema, name)
        texts = _present(first_values(head, name)) if not pa.types.is_integer(dtype) else []
    else:
        texts = _present(head.samples.get(name, []))
    odd = [text for text in texts if not _NUMBER.fullmatch(text)]
    if 2 * len(odd) <= len(texts) or not odd:
        return
    start = f"{name_of(head)}: the column '{name}' ({odd[0][:40]} …) holds no numbers to read as ratings"
    ignore = "or ignore it with --map rating= (empty)"
    if all(text.startswith('"') and text.endswith('"') for text in odd) and isinstance(head, TextLayout):
        raise DasError(f"{start}, but values in quotes, which --quote '\"' removes; set it, {ignore}.")
    if all(text.startswith("'") and text.endswith("'") for text in odd) and isinstance(head, TextLayout):
        raise DasError(f'{start}, but values in single quotes; remove them with `tr -d "\'" < FILE > ROWS`, {ignore}.')
    if all(map(_COMMA.fullmatch, odd)):
        advice = f"but numbers with a decimal comma; write points, with `{_converted(head, name, _POINT)}`"
        raise DasError(f"{start}, {advice}, {ignore}.")
    if all(map(_INSIDE.fullmatch, odd)):
        raise DasError(f"{start}; keep the number in it, with `{_converted(head, name, _DIGITS)}`, {ignore}.")
    # Refusals first, and of signs that are repeated (★★★) the fewest: the numbers that are suggested rise.
    kinds = sorted(dict.fromkeys(odd), key=lambda kind: (kind.lower() not in _AGAINST, len(set(kind)) > 1 or len(kind)))
    if 1 < len(kinds) <= _MOST_KINDS and not any(":" in kind or "," in kind for kind in kinds):
        weights = " ".join(shlex.quote(f"{kind}:{k}") for k, kind in enumerate(kinds))
        raise DasError(
            f"{start}; give each kind its number with --event {weights} --event-column {shlex.quote(name)} (with "
            f"the numbers that you mean), {ignore}."
        )
    raise DasError(f"{start}; name another with --map rating=COLUMN, {ignore}.")


_POINT: Final = "str.replace(',', '.')"
_DIGITS: Final = "str.extract('([0-9]+[.]?[0-9]*)')"


def _converted(head: Head, name: str, change: str) -> str:
    """Returns the command that changes a column's text."""
    file = file_of(head).uri.rsplit("/", 1)[-1]
    if isinstance(head, TextLayout) and not format_of(head).keyed:
        read, kind = f"read_csv('{file}', separator='{head.delimiter or ','}', infer_schema=False)", "csv"
    elif isinstance(head, TextLayout):
        read, kind = f"read_ndjson('{file}')", "ndjson"
    else:
        read, kind = f"read_{head.format}('{file}')", "parquet"
    return _POLARS.format(read=read, column=name, change=change, kind=kind)


def _present(values: Sequence[Any]) -> list[str]:
    texts = [
        str(value).lower() if isinstance(value, bool) else str(value).strip()
        for value in values
        if value is not None and not isinstance(value, list | dict)
    ]
    return [text for text in texts if text not in ("", NO_ID, *NULL_LIKE)]
