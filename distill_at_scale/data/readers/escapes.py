r"""Quotes that a backslash escapes (``"the \"best\" of"``), as Spark, Hive and MySQL write them.

CSV proper doubles such quotes. Read so, ``\"`` ends the field, the rest of the field follows as plain characters, and
an id loses its quotes silently. A line is read in the other way only if it is not valid CSV, but is with escapes.
"""

from __future__ import annotations

import csv
import re
from typing import Final

from distill_at_scale.data.noticed import Notice, shown

_LINE: Final = re.compile(rb'(?m)^[^\n]*?\\"[^\n]*')
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_WHAT: Final = r"a quote after a backslash (\") is read as a quote inside its field, as Spark and MySQL write it"


def unescaped(block: bytes, delimiter: str, width: int) -> tuple[bytes, tuple[Notice, ...]]:
    """Doubles the quotes that a backslash escapes, in lines that are valid CSV only so; the block's size stays.

    Args:
        block: Whole lines.
        delimiter: Delimiter between fields.
        width: Number of fields per row.
    """
    if b'\\"' not in block:
        return block, ()
    changed: list[bytes] = []

    def fixed(match: re.Match[bytes]) -> bytes:
        line = match.group()
        if _is_row(line, delimiter, width):
            return line
        doubled = _ESCAPE.sub(lambda pair: b'""' if pair.group(1) == b'"' else pair.group(), line)
        if not _is_row(doubled, delimiter, width):
            return line
        changed.append(line)
        return doubled

    block = _LINE.sub(fixed, block)
    if not changed:
        return block, ()
    return block, (Notice(what=_WHAT, count=len(changed), unit="line", example=shown(changed[0].decode())),)


def _is_row(line: bytes, delimiter: str, width: int) -> bool:
    """Returns whether a line is one row of CSV in which nothing follows a closing quote."""
    try:
        rows = list(csv.reader([line.decode().rstrip("\r")], delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == width
