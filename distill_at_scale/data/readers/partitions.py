"""Partition columns in folder names, as Hive and Spark write them: ``dt=2026-01-01/hour=03/a.parquet``."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_FOLDER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.*)")
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def partition_values(uri: str) -> dict[str, str | None]:
    """Returns column → value from a file's folders (all text, None for Hive's null); empty without partition
    folders."""
    values: dict[str, str | None] = {}
    for folder in uri.split("/")[:-1]:
        match = _FOLDER.fullmatch(folder)
        if match:
            value = unquote(match.group(2))
            values[match.group(1)] = None if value == _NULL else value
    return values


def above_partitions(uri: str) -> str:
    """Returns the folder of a file above its partition folders."""
    parts = uri.split("/")[:-1]
    while parts and _FOLDER.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)
