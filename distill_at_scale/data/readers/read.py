"""Reading, on the workers: one fragment in, validated batches out."""

from __future__ import annotations

from collections.abc import Iterator

from distill_at_scale.data import storage
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.data.readers.time_watch import watch_times


def read_fragment(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """Reads a fragment in batches of at most about a million rows; every row is either good or bad, none is lost.

    The same fragment always gives the same batches, and the rows of a file do not depend on its division into
    fragments.

    Raises:
        DasError: The file is missing, truncated, damaged, not UTF-8 or changed since planning, or it contains a second
            header with other columns.
    """
    with storage.unchanged(fragment.uri, fragment.version):
        yield from watch_times(format_of(fragment).read(fragment, schema), fragment, schema)
