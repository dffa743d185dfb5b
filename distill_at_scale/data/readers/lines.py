"""Result of parsing one block of lines, common to all text formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data.noticed import Notice


@dataclass(frozen=True)
class Parsed:
    """One parsed block of lines.

    Attributes:
        raw: [r] rows with canonical column names, not yet validated.
        broken: Malformed lines, as text.
        reasons: Reason for each malformed line.
        numbers: Function, called only if a row is bad, that returns the 0-based line in the block of each row of
            ``raw`` and of each malformed line, or None if unknown (fields that contain line ends).
        noticed: Notices about the lines.
    """

    raw: pl.DataFrame
    broken: list[str]
    reasons: list[str]
    numbers: Callable[[], tuple[np.ndarray | None, np.ndarray | None]]
    noticed: tuple[Notice, ...] = ()


def line_numbers(block: bytes) -> np.ndarray:
    """Returns the 0-based numbers, int64, of the non-empty lines of ``block``."""
    if not block:
        return np.empty(0, dtype=np.int64)
    data = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts
    only_return = (length == 1) & (data[starts] == ord("\r"))
    return np.flatnonzero((length > 0) & ~only_return)
