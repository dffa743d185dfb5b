"""Refuses a fragment most of whose times are no times of the log it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from distill_at_scale.data import storage
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.time_units import describe
from distill_at_scale.data.times import UNLIKELY
from distill_at_scale.errors import DasError


def watch_times(batches: Iterator[Batch], fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """The batches as they are; single odd times lie in the quarantine, too many of them stop the job.

    Raises:
        DasError: more than half of the fragment's times are of another unit, naming file and unit.
    """
    rows = odd = 0
    example = ""
    for batch in batches:
        rows += batch.rows
        if batch.bad.height and schema.time_checked and schema.has_timestamp:
            faulty = batch.bad.filter(batch.bad["reason"].is_in(list(UNLIKELY)))
            odd += faulty.height
            example = example or (faulty["timestamp"][0] or "" if faulty.height else "")
        yield batch
    if 2 * odd > rows:
        raise DasError(
            f"{storage.redact(fragment.uri)}: {odd:,} of {rows:,} times (such as {example}) lie outside 1990 to 2100 "
            f"when read as {describe(schema.times)}, as the other files' are; the file, or a part of it, is in another "
            f"unit: read it apart, or convert it first."
        )
