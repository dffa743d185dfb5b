"""A split rule of one's own: each user's first row is test, the second one validation."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data.columns import TEST, TRAIN, VALIDATION
from distill_at_scale.data.splits import Split, SplitRows


def first(rows: SplitRows) -> np.ndarray:
    """int8 [rows] of codes."""
    code = np.full(rows.offsets[-1], TRAIN, dtype=np.int8)
    code[rows.offsets[:-1]] = TEST
    code[rows.offsets[:-1] + 1] = VALIDATION
    return code


FIRST = Split(first, shortest=3, by_time=True, by_order=True)
