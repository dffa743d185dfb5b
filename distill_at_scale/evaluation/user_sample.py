"""A random sample of a dataset's users to evaluate on, and what it costs: an interval of the average over all users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing

LEVEL = 0.95
_Z = 1.96


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


def interval(mean: float, error: float, share: float) -> tuple[float, float]:
    """Returns a 95 % interval of the average over all users, of whom a share was drawn.

    Args:
        mean: Average over the users drawn.
        error: Its standard error, as of a sample of infinitely many users.
        share: Share of all users that was drawn; with it, the error falls to 0 (Cochran, "Sampling techniques", 3rd
            edition 1977, equation 2.20).
    """
    half = _Z * error * max(1.0 - share, 0.0) ** 0.5
    return mean - half, mean + half
