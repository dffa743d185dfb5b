"""Samplers whose units are users: at random, or the most active ones.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1 (random and
head user sampling).
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.train_rows import TrainRows


def random_users(rows: TrainRows, seed: int) -> Scores:
    """Keeps every user with the same probability, with all its train rows."""
    draw = hashing.combine(hashing.stream("random_users/keys", seed), rows.user_hash)
    return Scores(draw, rows.user_hash, rows.counts)


def head_users(rows: TrainRows, seed: int) -> Scores:
    """Keeps the users with the most train rows, with all their rows; a draw decides between equally active users."""
    # 2^63 / n decreases in n, and spreads small n over many bins of a histogram.
    keys = np.uint64(1 << 63) // np.maximum(rows.counts, 1).astype(np.uint64)
    ties = hashing.combine(hashing.stream("head_users/ties", seed), rows.user_hash)
    return Scores(keys, ties, rows.counts)


RANDOM_USERS = Sampler("random_users", random_users)
HEAD_USERS = Sampler("head_users", head_users)
