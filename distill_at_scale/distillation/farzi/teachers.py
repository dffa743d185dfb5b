"""Teachers: full-data models of the student's architecture, trained on random windows of the sequences."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model
from distill_at_scale.models.training.batches import Batch, Examples, pad_left
from distill_at_scale.models.training.sequential import SequentialRecommender


def is_snapshot_epoch(epoch: int) -> bool:
    """Returns whether a teacher's parameters after this epoch are kept as initial parameters of trajectories: after
    epochs 1, 2, 4, …, since parameters change most at the beginning."""
    return epoch & (epoch - 1) == 0


class WindowExamples(Examples):
    """Random windows of users with at least two items: ``items`` int64 [b, w], padded on the left with n_items.

    Per epoch, a user has as many windows as are needed to cover its rows. The ends of windows are drawn such that all
    items are targets about equally often; ends beyond the newest item are clamped to it.
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
    """Mixin that trains a sequential model on windows."""

    config: Any

    def examples(self, rows: Interactions) -> Examples:
        return WindowExamples(rows, self.config.length)


def teacher_model(name: str, settings: dict[str, Any]) -> SequentialRecommender:
    """Returns the unfitted sequential model ``name``, to be trained on random windows instead of the sequences' ends.

    Otherwise most of a log with long histories would be unused, since a model reads ``length`` items of each.

    Raises:
        SettingError: The model refuses the settings.
    """
    plain = create_model(name, settings)
    kind: Any = type(f"{type(plain).__name__}OnWindows", (_OnWindows, type(plain)), {})
    return cast(SequentialRecommender, kind(plain.config))
