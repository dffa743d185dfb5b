"""Table formats with a transaction log (Delta Lake, Iceberg, Hudi). Only files that the log lists are read.

Their folders also hold deleted and rewritten rows, so they are never read as plain Parquet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers import iceberg, table_errors
from distill_at_scale.data.readers.partitions import above_partitions, partition_values
from distill_at_scale.errors import DasError

_DELTA_LOG: Final = "_delta_log"
_HOODIE: Final = ".hoodie"
_ROOTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(rf"(.*)/{_DELTA_LOG}/.*"), "delta"),
    (re.compile(rf"(.*)/\{_HOODIE}/.*"), "hudi"),
    (re.compile(r"(.*)/metadata/[^/]*\.metadata\.json"), "iceberg"),
)
# Patterns or single files may span many folders; at most this many are checked for a log.
_MAX_ASKED: Final = 100


def find_roots(uris: Iterable[str]) -> dict[str, str]:
    """Returns folder → kind of the tables whose logs are among these files."""
    roots: dict[str, str] = {}
    for uri in uris:
        for pattern, kind in _ROOTS:
            match = pattern.fullmatch(uri)
            if match:
                roots.setdefault(match.group(1), kind)
    return roots


def ask_for_roots(files: Sequence[storage.FileInfo], listed: Sequence[str]) -> dict[str, str]:
    """Returns folder → kind of the tables around files whose folders were not listed as a whole.

    Args:
        files: Files of all inputs.
        listed: Folders that were listed with all their content.
    """
    bases = {above_partitions(file.uri) for file in files}
    bases |= {base.removesuffix("/data") for base in bases}
    asked = [
        base
        for base in sorted(bases)
        # Web servers have no listings, so a log beside the file cannot be found.
        if not base.startswith(("http://", "https://"))
        and not any(f"{base}/".startswith(f"{folder}/") for folder in listed)
    ]
    roots: dict[str, str] = {}
    for base in asked[:_MAX_ASKED]:
        if storage.exists(storage.join(base, _DELTA_LOG)):
            roots[base] = "delta"
        elif storage.exists(storage.join(base, _HOODIE)):
            roots[base] = "hudi"
        elif storage.is_folder(storage.join(base, "metadata")):
            roots |= find_roots(file.uri for file in storage.list_files(storage.join(base, "metadata")))
    return roots


def live_files(
    files: Sequence[storage.FileInfo], roots: dict[str, str], listed: Sequence[str]
) -> tuple[list[storage.FileInfo], list[Notice]]:
    """Drops the files that their table's log does not list.

    Args:
        files: Files of all inputs.
        roots: Folder → kind of the tables among them.
        listed: Folders that were listed with all their content, so that missing files are detected.

    Raises:
        DasError: The log of a table cannot be read; the message says what to install or how to write plain Parquet.
    """
    kept = list(files)
    noticed = []
    for root, kind in roots.items():
        shown_root = storage.redact(root)
        mine = [file for file in kept if file.uri.startswith(f"{root}/")]
        if not mine:
            continue
        if kind == "hudi":
            raise table_errors.unsupported(root, kind)
        name = table_errors.name_of(kind)
        live = _delta_files(root) if kind == "delta" else iceberg.live_files(root)
        missing = live - {file.uri for file in mine}
        if missing and any(f"{root}/".startswith(f"{folder}/") for folder in listed):
            raise DasError(f"{shown_root}: the {name} table's log lists {min(missing)}, which is missing.")
        gone = [file for file in mine if file.uri not in live]
        kept = [file for file in kept if file.uri in live or not file.uri.startswith(f"{root}/")]
        if gone:
            what = f"left out: the log of the {name} table does not list it (any more)"
            noticed.append(Notice(what=what, count=len(gone), unit="file", example=storage.redact(gone[0].uri)))
    return kept, noticed


def _delta_files(root: str) -> set[str]:
    """Returns the files of the newest version of a Delta table."""
    try:
        import deltalake
    except ImportError as error:
        raise table_errors.no_reader(root, "delta") from error
    try:
        table = deltalake.DeltaTable(root, storage_options=_storage_options(root))
        configuration = table.metadata().configuration or {}
        columns = list(table.metadata().partition_columns)
        actions: Any = table.get_add_actions(flatten=True)
        names = list(actions.schema.names)
        paths = [str(path) for path in actions["path"].to_pylist()]
        vectors = any(
            any(value is not None for value in actions[name].to_pylist())
            for name in names
            if name.startswith(("deletion_vector", "deletionVector"))
        )
    except Exception as error:  # its errors share no base class
        raise table_errors.unreadable(root, "delta", error) from error
    mapped = configuration.get("delta.columnMapping.mode", "none") not in ("none", None)
    uris = {storage.join(root, unquote(path)) if "://" not in path else unquote(path) for path in paths}
    unnamed = any(column not in partition_values(uri) for uri in uris for column in columns)
    if vectors or mapped or unnamed:
        what = (
            "deletion vectors" if vectors else "columns under other names" if mapped else "partitions outside its paths"
        )
        raise table_errors.uses(root, "delta", what)
    return uris


def _storage_options(root: str) -> dict[str, str]:
    if storage.is_local(root):
        return {}
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"AWS_ALLOW_HTTP": "true"} if plain else {}
