"""Detects id columns whose values are lists of ids, such as the histories of MIND's behaviors.tsv.

Text alone does not tell a list from a composite id such as ``12|3``; ``--id-type string`` says that it is an id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.errors import DasError

_SEPARATORS: Final = (" ", ",", "|", ";")
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_HASH: Final = re.compile(r"(?=.*[0-9])[0-9a-f]{8,}|(?=.*[0-9])[0-9A-F]{8,}")
_BRACKETS: Final = re.compile(r"^[\[({]|[\])}]$|[\"']")


def refuse_arrays(values: Sequence[Any], canonical: str, name: str, source: str) -> None:
    """Rejects an id field of JSON objects in which most values are arrays.

    Args:
        values: First values of the field.
        canonical: ``user_id`` or ``item_id``.
        name: Name of the field in the file.
        source: File name for the message.

    Raises:
        DasError: Names the field and the remedy.
    """
    arrays = [value for value in values if isinstance(value, list)]
    if arrays and 2 * len(arrays) >= len(values):
        raise DasError(
            f"{source}: the field '{name}' holds arrays ({str(arrays[0])[:60]}) where an object has one {canonical}; "
            f"write a row for each of their values, or convert the file to Parquet, whose lists are read: "
            f"`python -c \"import polars as pl; pl.read_ndjson('FILE.jsonl').write_parquet('FILE.parquet')\"`."
        )


def check_lists(values: Sequence[Any], canonical: str, name: str, source: str, id_type: str) -> list[Notice]:
    """Rejects an id column in which most values are lists of ids, unless ``--id-type string`` says that they are ids.

    Args:
        values, canonical, name, source: As for :func:`refuse_arrays`.
        id_type: ``--id-type``.

    Returns:
        A notice about values that look like lists and are read as ids.

    Raises:
        DasError: Names the column and the remedy.
    """
    refuse_arrays(values, canonical, name, source)
    texts = [value for value in values if isinstance(value, str) and value]
    lists = [text for text in texts if _is_list(text)]
    if not lists or 2 * len(lists) < len(texts):
        return []
    if id_type == "string":
        what = f"column '{name}' looks like lists, but each value is read as one {canonical} (--id-type string)"
        return [Notice(what=what, count=1, unit="file", example=shown(lists[0]))]
    raise DasError(
        f"{source}: the column '{name}' holds lists ({lists[0][:60]}) instead of one {canonical} per row; write one "
        f"row per value (explode in Polars or pandas), name another column with --map {canonical}=COLUMN, or, if each "
        f"value is one id, say --id-type string."
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
            # Hashes are alike in their length.
            if all(map(_HASH.fullmatch, parts)) and len({len(part) for part in parts}) == 1:
                return True
    return False
