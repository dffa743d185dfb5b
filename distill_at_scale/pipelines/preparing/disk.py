"""Disk that `prepare` fills, by what was measured of a row, and its refusal where there is less."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from distill_at_scale.data import storage
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.errors import StorageError
from distill_at_scale.facts import byte_size
from distill_at_scale.pipelines.runtime.rates import rates

# Bytes of a row in no order, with 64-bit ids, in the forms that `Exchange.peak` names: jobs/results/large-logs.json.
_FORMS = (15.6, 15.6, 8.2)
# Of a source's row with one level, where item ids are not yet numbered and the distinct ones have their own file.
_WITH_IDS = 17.3
# Of a row's time in a shard.
_TIME = 4.4


def disk_needed(rows: int, exchange: Exchange, at_once: int, has_times: bool = True) -> tuple[float, float]:
    """Returns the bytes of unfinished work and of the dataset of a log.

    Args:
        rows: Number of rows.
        exchange: Plan of their exchange.
        at_once: Number of tasks at the same time.
        has_times: Whether rows have times that are more than positions, which take next to nothing.
    """
    of_row = rates().ratio("prepare/big", "bytes", "rows") - (0.0 if has_times else _TIME)
    dealt, merged, sorted_ = _FORMS
    work = exchange.peak(dealt if exchange.merges else _WITH_IDS, merged, sorted_, exchange.buckets, at_once)
    return rows * work, rows * of_row


def require_space(output: str, rows: int, exchange: Exchange, has_times: bool = True) -> None:
    """Refuses a log whose dataset and unfinished work a local disk does not hold.

    Args:
        output: Address of the dataset.
        rows, exchange, has_times: As in :func:`disk_needed`.

    Raises:
        StorageError: Naming what is needed and what is free.
    """
    if "://" in output:
        return
    place = Path(output)
    while not place.exists():
        place = place.parent
    needed = sum(disk_needed(rows, exchange, os.cpu_count() or 1, has_times))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"preparing about {rows:,} rows fills about {byte_size(needed)} at {storage.redact(output)}, but "
            f"{byte_size(free)} are free there; choose an --output with more space, or prepare fewer rows."
        )
