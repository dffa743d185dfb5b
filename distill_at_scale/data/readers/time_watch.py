"""Rejects a fragment most of whose times are implausible in its log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.time_units import describe
from distill_at_scale.data.times import LIKELY_MS, UNLIKELY, show_time
from distill_at_scale.errors import DasError


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
