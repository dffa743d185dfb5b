"""Watches the times of a fragment: rejects one most of whose times are implausible in its log, and reports zones that
change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.time_units import describe
from distill_at_scale.data.times import LIKELY_MS, UNLIKELY, show_time
from distill_at_scale.errors import DasError

_WITHOUT_ZONE: Final = "^[^:]*(:[0-9]{2}(:[0-9.,]+)?)?$"


def notice_zones(raw: pl.DataFrame, schema: LogSchema) -> list[Notice]:
    """Reports raw times whose zone is not that of the log's first times."""
    zone = schema.time_zone
    if zone is None or Columns.TIMESTAMP not in raw.columns or raw[Columns.TIMESTAMP].dtype != pl.String:
        return []
    text = raw[Columns.TIMESTAMP].str.strip_chars()
    own = text.str.ends_with(zone) if zone else text.str.contains(_WITHOUT_ZONE)
    if own.all():
        return []
    other = text.filter(~own & text.str.contains(":", literal=True))
    without = other.str.contains(_WITHOUT_ZONE) if zone else other.str.contains("^$")
    notices = []
    if without.any():
        what = f"timestamp has no zone, though the first ones have one ({zone}), and is taken as UTC"
        notices.append(Notice(what=what, count=int(without.sum()), example=shown(other.filter(without)[0])))
    zoned = other.filter(~without)
    if len(zoned):
        what = (
            f"timestamp has another zone than the first ones ({zone or 'none, taken as UTC'}); it is converted to UTC"
        )
        notices.append(Notice(what=what, count=len(zoned), example=shown(zoned[0])))
    return notices


def watch_times(batches: Iterator[Batch], fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Passes the batches through. Rows with odd times go to the quarantine; too many of them stop the job.

    Raises:
        DasError: More than half of the fragment's times are in another unit; names the file and the unit.
    """
    rows = odd = 0
    example = ""
    for batch in batches:
        rows += batch.rows
        if schema.time_checked and schema.has_timestamp:
            batch = _notice_future(batch)
        if batch.bad.height and schema.time_checked and schema.has_timestamp:
            faulty = batch.bad.filter(batch.bad["reason"].is_in(list(UNLIKELY)))
            odd += faulty.height
            example = example or (faulty["timestamp"][0] or "" if faulty.height else "")
        yield batch
    if 2 * odd > rows:
        raise DasError(
            f"{storage.redact(fragment.uri)}: {odd:,} of {rows:,} times (such as {example}) lie outside 1990 to 2100 "
            f"when read as {describe(schema.times)}, like the other files; the file, or part of it, is in another "
            f"unit: read it separately, or convert it first."
        )


def _notice_future(batch: Batch) -> Batch:
    times = batch.good[Columns.TIMESTAMP]
    end = LIKELY_MS[1] * 1_000_000
    last: Any = times.max()
    if last is None or last < end:
        return batch
    # A fixed bound instead of the current time: the same log gives the same notices on any day.
    what = "timestamp lies in 2035 or later; such rows come last in the order of time"
    late = Notice(what=what, count=int((times >= end).sum()), example=show_time(last / 1e6))
    return replace(batch, noticed=(*batch.noticed, late))
