"""What every text format gives back for one block of lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data.noticed import Notice


@dataclass(frozen=True)
class Parsed:
    """One block of lines, taken apart.

    Attributes:
        raw: [r] rows with canonical column names, not validated.
        broken: the lines that do not come apart, as text.
        reasons: why, for each of them.
        numbers: called when a row turns out bad; gives the 0-based line in the block of each row of ``raw``
            and of each broken line, or None where that cannot be told (fields that hold line ends).
        noticed: what is odd about the lines.
    """

    raw: pl.DataFrame
    broken: list[str]
    reasons: list[str]
    numbers: Callable[[], tuple[np.ndarray | None, np.ndarray | None]]
    noticed: tuple[Notice, ...] = ()


def line_numbers(block: bytes) -> np.ndarray:
    """int64, the 0-based numbers of the lines of ``block`` that are not empty."""
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
