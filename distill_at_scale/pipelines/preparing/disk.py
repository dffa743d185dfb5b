"""Disk that `prepare` fills, by what was measured of a row, and its refusal where there is less."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill_at_scale.data import storage
from distill_at_scale.errors import StorageError
from distill_at_scale.pipelines.runtime.rates import rates


def disk_needed(rows: int) -> tuple[float, float]:
    """Returns the bytes of unfinished work and of the dataset of a log with ``rows`` rows."""
    measured = rates()
    return (
        rows * measured.ratio("prepare/big", "work_bytes", "rows"),
        rows * measured.ratio("prepare/big", "bytes", "rows"),
    )


def require_space(output: str, rows: int) -> None:
    """Refuses a log whose dataset and unfinished work a local disk does not hold.

    Raises:
        StorageError: Naming what is needed and what is free.
    """
    if "://" in output:
        return
    place = Path(output)
    while not place.exists():
        place = place.parent
    needed, free = sum(disk_needed(rows)), shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"preparing about {rows:,} rows fills about {needed / 2**30:,.1f} GiB at {storage.redact(output)}, but "
            f"{free / 2**30:,.1f} GiB are free there; choose an --output with more space, or prepare fewer rows."
        )
