"""A random sample of a dataset's users to evaluate on, and what it costs: an interval of the average over all users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions

LEVEL = 0.95
_Z = 1.96
# Rows and users that are kept for the next evaluation on the same sample: about 10 MB.
_KEPT = 1 << 19


@dataclass(frozen=True)
class UserSample:
    """Users drawn by a hash of their ids, each with the same probability: the same users in every dataset with these
    ids, however it is sharded or sampled.

    Attributes:
        share: Probability of a user, below 1.
        seed: Random seed.
    """

    share: float
    seed: int

    def positions(self, ids: pl.Series) -> np.ndarray:
        """Returns the positions of the users that are drawn among ``ids`` (Int64 or String), int64, ascending."""
        return np.flatnonzero(
            hashing.drawn(hashing.stream("evaluate/users", self.seed), hashing.hash_ids(ids), self.share)
        )


EvaluationRows = tuple[Interactions, Interactions, Interactions]
"""Histories, held-out rows, and the train rows that auc's negatives avoid too, of the same users."""


def evaluation_rows(dataset: Dataset, split: str, shard: int) -> EvaluationRows:
    """Reads what one shard's users are evaluated on."""
    histories, heldout = dataset.histories(split, shard)
    # As in the reference code, auc's negatives avoid the train and held-out rows only.
    return histories, heldout, histories if split == "validation" else dataset.interactions("train", shards=[shard])


class _LastSample:
    """Rows of the sample that was asked for last: a search evaluates many small fits on the same few users, and reading
    their shards takes longer than evaluating one of these."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._rows: dict[int, EvaluationRows] = {}
        self._size = 0

    def get(self, dataset: Dataset, split: str, shard: int, sample: UserSample) -> EvaluationRows:
        key = (dataset.uri, dataset.manifest.fingerprint, split, sample)
        if key != self._key:
            self._key, self._rows, self._size = key, {}, 0
        found = self._rows.get(shard)
        if found is None:
            chosen = sample.positions(dataset.users(shard)[Columns.USER_ID])
            histories, heldout, known = (rows.take(chosen) for rows in evaluation_rows(dataset, split, shard))
            found = (histories, heldout, known)
            size = sum(rows.n_rows + 2 * len(rows) for rows in found)
            if self._size + size <= _KEPT:
                self._rows[shard], self._size = found, self._size + size
        return found


_last_sample = _LastSample()


def rows_of_sample(dataset: Dataset, split: str, shard: int, sample: UserSample) -> EvaluationRows:
    """Returns the :func:`evaluation_rows` of the users of a sample; a small sample is read once."""
    return _last_sample.get(dataset, split, shard, sample)


def interval(mean: float, error: float, share: float, n: int) -> tuple[float, float]:
    """Returns a 95 % interval, between 0 and 1, of the average over all users, of whom a share was drawn.

    It is Wilson's score interval of as many users as would give a share of hits this standard error (Korn and Graubard,
    "Confidence intervals for proportions with small expected number of positive counts", 1998): mean ± 1.96 errors
    would leave [0, 1] for a few users, and be a point where none of them has a hit.

    Args:
        mean: Average over the users drawn of a metric between 0 and 1.
        error: Its standard error, as of a sample of infinitely many users.
        share: Share of all users that was drawn; with it, the error falls to 0 (Cochran, "Sampling techniques", 3rd
            edition 1977, equation 2.20).
        n: Number of users over whom the average is taken. Where all of them have the same value, the variance is taken
            as that of hits and misses, the largest possible.
    """
    left = max(1.0 - share, 0.0)
    if not left:
        return mean, mean
    alike = error <= 1e-12 or mean in (0.0, 1.0)
    effective = (n if alike else mean * (1 - mean) / error**2) / left
    shrunk = 1 + _Z**2 / effective
    centre = (mean + _Z**2 / (2 * effective)) / shrunk
    half = _Z / shrunk * (mean * (1 - mean) / effective + (_Z / (2 * effective)) ** 2) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)
