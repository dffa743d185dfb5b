"""Descriptions of a log's times and ties for the manifest, from the schema and the stages' records."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill_at_scale.data.log_record import Reading
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers import LogSchema
from distill_at_scale.registry import FORMATS


def time_unit(schema: LogSchema) -> str | None:
    """Returns the unit of a log's times; ``position`` if the order of its lines stands for time, None without times."""
    if schema.positions:
        return "position"
    return schema.time_unit if schema.has_timestamp else None


def times(schema: LogSchema, reading: Reading) -> dict[str, str]:
    """Returns the first and last time of the log's good rows as ISO 8601; empty for positions or without times."""
    if not reading.times or all(getattr(FORMATS.get(way.format), "positions", False) for way in reading.read_as):
        return {}
    first, last = (str(np.datetime64(time // 1_000_000_000, "s")) + "Z" for time in reading.times)
    written = {"time_format": schema.time_format} if schema.time_format else {}
    return {**written, "first_time": first, "last_time": last}


def ties(tied: Mapping[str, int]) -> list[Notice]:
    """Returns notices about held-out rows that a draw chose; ``tied``: split → number of rows."""
    what = "held out for {} by a draw (--seed) among rows of the user with the same time"
    return [Notice(what=what.format(split), count=n) for split, n in tied.items() if n]
