"""RowValues: one number for each train row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowValues:
    """Values of a dataset's train rows.

    Attributes:
        users, items: int64 [n], the distinct train rows by user and item.
        values: float64 [n], −∂loss/∂w at w = 1: positive if the row helps, negative if it hurts.
        loss: Validation loss.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    loss: float
