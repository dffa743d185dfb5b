"""Teachers: full-data models of the student's architecture, trained on windows from anywhere in the sequences."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model
from distill_at_scale.models.training.batches import Batch, Examples, pad_left
from distill_at_scale.models.training.sequential import SequentialRecommender


def is_on_the_way(epoch: int) -> bool:
    """Whether a teacher's parameters after this epoch are kept as a student to begin with: 1, 2, 4, …; a training
    changes most at its beginning."""
    return epoch & (epoch - 1) == 0


class WindowExamples(Examples):
    """Windows of users with at least two items, each drawn again every time: ``items`` int64 [b, w], padded at the left
    with n_items.

    A user has as many windows an epoch as are needed to cover the rows. The end of a window is drawn so that every
    item is a target about as often as any other; the newest items are as likely as all that a window can overhang.
    """

    def __init__(self, rows: Interactions, length: int) -> None:
        self._rows = rows.take(np.flatnonzero(rows.counts > 1), timestamps=False)
        self._length = length
        windows = -(-self._rows.counts // length)
        self._owner = np.repeat(np.arange(len(self._rows)), windows)
        turn = ragged.positions(windows)
        self.keys = hashing.combine(
            hashing.stream("farzi/windows"), self._rows.users[self._owner].astype(np.uint64), turn.astype(np.uint64)
        )

    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._rows.take(self._owner[chosen], timestamps=False)
        ends = np.minimum(rng.integers(2, rows.counts + self._length), rows.counts)
        before = ragged.positions(rows.counts) < np.repeat(ends, rows.counts)
        cut = Interactions(rows.users, ragged.offsets(ends), rows.items[before], rows.n_items)
        return {"items": torch.from_numpy(pad_left(cut, self._length + 1))}


class _OnWindows:
    """What makes a sequential model learn from windows."""

    config: Any

    def examples(self, rows: Interactions) -> Examples:
        return WindowExamples(rows, self.config.length)


def teacher_model(name: str, settings: dict[str, Any]) -> SequentialRecommender:
    """The sequential model ``name``, unfitted, that learns from random windows in place of the sequences' ends.

    A log with long histories is otherwise mostly unread: a model reads ``length`` items of each.

    Raises:
        DasError: for settings that the model refuses.
    """
    plain = create_model(name, settings)
    kind: Any = type(f"{type(plain).__name__}OnWindows", (_OnWindows, type(plain)), {})
    return cast(SequentialRecommender, kind(plain.config))
