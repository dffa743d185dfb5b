"""Columns that stand in the names of folders, as Hive and Spark write them: ``dt=2026-01-01/hour=03/a.parquet``."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_FOLDER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.*)")
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def partition_values(uri: str) -> dict[str, str | None]:
    """Column → value of a file's folders (all text, None for Hive's null); empty without such folders."""
    values: dict[str, str | None] = {}
    for folder in uri.split("/")[:-1]:
        found = _FOLDER.fullmatch(folder)
        if found:
            value = unquote(found.group(2))
            values[found.group(1)] = None if value == _NULL else value
    return values


def above_partitions(uri: str) -> str:
    """The folder of a file, without the folders below it whose names hold columns."""
    parts = uri.split("/")[:-1]
    while parts and _FOLDER.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)
