"""Iceberg tables: the files of the newest snapshot, by the metadata beside the data, without a catalog."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from distill_at_scale.data import storage
from distill_at_scale.data.readers import table_errors
from distill_at_scale.errors import DasError

_METADATA: Final = re.compile(r"(?:v(\d+)|(\d+)-[^/]*)(?:\.gz)?\.metadata\.json(?:\.gz)?")


def live_files(root: str) -> set[str]:
    """Returns the data files of the newest snapshot of the table in a folder.

    Raises:
        DasError: The package is missing, the metadata cannot be read, or the table has what files alone do not show:
            row-level deletes, renamed columns, or data in other formats than Parquet.
    """
    try:
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise table_errors.no_reader(root, "iceberg") from error
    newest = _newest_metadata(root)
    try:
        table = StaticTable.from_metadata(newest, _properties(root))
        tasks: list[Any] = list(table.scan().plan_files())
        renamed = _renamed(table)
    except Exception as error:  # its errors share no base class
        raise table_errors.unreadable(root, "iceberg", error) from error
    deletes = any(task.delete_files for task in tasks)
    others = any(str(task.file.file_format).rsplit(".", 1)[-1].upper() != "PARQUET" for task in tasks)
    if deletes or renamed or others:
        what = (
            "row-level deletes (merge-on-read)"
            if deletes
            else f"a renamed column ('{renamed}')"
            if renamed
            else "data files that are not Parquet"
        )
        raise table_errors.uses(root, "iceberg", what)
    return {storage.normalise(str(task.file.file_path)) for task in tasks}


def _newest_metadata(root: str) -> str:
    """Returns the metadata file with the largest number; of several with that number, the one written last.

    Raises:
        DasError: There is none.
    """
    numbered = []
    for file in storage.list_files(storage.join(root, "metadata")):
        match = _METADATA.fullmatch(file.uri.rsplit("/", 1)[-1])
        if match:
            numbered.append((int(match[1] or match[2]), file.version, file.uri))
    if not numbered:
        raise DasError(f"{storage.redact(root)}: the Iceberg table has no metadata file that is numbered.")
    newest = max(number for number, _, _ in numbered)
    same = [uri for number, _, uri in numbered if number == newest]
    if len(same) > 1:
        raise DasError(
            f"{storage.redact(root)}: the Iceberg table has {len(same)} metadata files with the number {newest}, of "
            "which only its catalog knows the current one; write its current rows as plain Parquet."
        )
    return same[0]


def _renamed(table: Any) -> str | None:
    """Returns a column whose name differs between schemas; older files hold it under the older name."""
    names: dict[int, str] = {}
    for schema in table.schemas().values():
        for field in schema.fields:
            if names.setdefault(field.field_id, field.name) != field.name:
                return str(field.name)
    return None


def _properties(root: str) -> dict[str, str]:
    """Returns how the package reaches an object store: as everything here does, by the environment."""
    if storage.is_local(root):
        return {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return {"s3.endpoint": endpoint} if endpoint else {}
