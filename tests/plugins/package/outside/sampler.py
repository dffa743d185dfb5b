"""A sampler of one's own: the oldest rows of the log, whoever they are of."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.train_rows import TrainRows


def oldest(rows: TrainRows, seed: int) -> Scores:
    """Rows by their time; a draw settles equal times."""
    assert rows.timestamps is not None
    keys = (rows.timestamps - np.iinfo(np.int64).min).view(np.uint64)
    return Scores(keys, rows.draw(hashing.stream("outside/oldest", seed)))


OLDEST = Sampler("oldest", oldest, timestamps=True)
