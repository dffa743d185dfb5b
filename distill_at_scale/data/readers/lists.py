"""Detects id columns whose values are lists of ids, such as the histories of MIND's behaviors.tsv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from distill_at_scale.errors import DasError

_SEPARATORS: Final = (" ", ",", "|", ";")
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_BRACKETS: Final = re.compile(r"^[\[({]|[\])}]$|[\"']")


def refuse_lists(values: Sequence[Any], canonical: str, name: str, source: str) -> None:
    """Rejects an id column in which most values are lists of ids.

    Args:
        values: First values of the column.
        canonical: ``user_id`` or ``item_id``.
        name: Name of the column in the file.
        source: File name for the error message.

    Raises:
        DasError: Names the column and the remedy.
    """
    arrays = [value for value in values if isinstance(value, list)]
    if arrays and 2 * len(arrays) >= len(values):
        raise DasError(
            f"{source}: the field '{name}' holds arrays ({str(arrays[0])[:60]}) where an object has one {canonical}; "
            f"write a row for each of their values, or convert the file to Parquet, whose lists are read: "
            f"`python -c \"import polars as pl; pl.read_ndjson('FILE.jsonl').write_parquet('FILE.parquet')\"`."
        )
    texts = [value for value in values if isinstance(value, str) and value]
    lists = [text for text in texts if _is_list(text)]
    if not lists or 2 * len(lists) < len(texts):
        return
    raise DasError(
        f"{source}: the column '{name}' holds lists ({lists[0][:60]}) instead of one {canonical} per row; write one "
        f"row per value (explode in Polars or pandas), or name another column with --map {canonical}=COLUMN."
    )


def _is_list(text: str) -> bool:
    """Returns whether a text consists of several ids of the same shape; titles and dates do not."""
    text = _BRACKETS.sub("", text.strip())
    if _THOUSANDS.fullmatch(text):
        return False
    for separator in _SEPARATORS:
        parts = [part.strip() for part in text.split(separator)]
        if len(parts) > 1 and all(parts):
            shapes = {re.sub(r"[0-9]+", "9", re.sub(r"[^\W\d_]+", "A", part)) for part in parts}
            if len(shapes) == 1 and "9" in next(iter(shapes)):
                return True
    return False
