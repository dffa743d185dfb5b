"""Density: users in sparse regions are kept with a higher probability than those with many like them.

Source: Sachdeva et al., "How to train data-efficient LLMs" (arXiv 2402.09668), section 4.2 and algorithm 1: in one
pass, R hash functions count how many points fall into each of B buckets; the mean count of a point's buckets
estimates its kernel density, here of the kernel (1 − angle / π)^8 on users' embeddings. Points are drawn with
p ∝ 1 / density, as the theorem has it (the printed algorithm ends with p ∝ density).
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.embedding.vectors import DIMENSIONS, EmbeddingRounds, gaussians, user_embeddings
from distill_at_scale.samplers.map_reduce import Arrays
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, weighted_keys
from distill_at_scale.samplers.train_rows import TrainRows

FUNCTIONS = 64
BITS = 8
"""Of a hash: the sides of so many random planes on which a point lies."""


class DensitySketch(EmbeddingRounds):
    """After the embedding one more pass, which fills the sketch; sketches of shards add up."""

    def visit_embedded(self, rows: TrainRows, shared: Arrays) -> Arrays:
        buckets = hash_users(rows, shared, self.task.seed)[rows.counts > 0]
        flat = buckets + (np.arange(FUNCTIONS) << BITS)
        return {"sketch": np.bincount(flat.ravel(), minlength=FUNCTIONS << BITS).reshape(FUNCTIONS, 1 << BITS)}

    def advance_embedded(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        return {**shared, "sketch": brought["sketch"].astype(np.int64)}, 1.0


def hash_users(rows: TrainRows, shared: Arrays, seed: int) -> np.ndarray:
    """int64 [users, R]: the bucket of each user's embedding under each function."""
    # Only planes of every direction alike, as the normal distribution's are, part two points in proportion to their
    # angle. Planes of ±1 do not in 16 dimensions, the less the fewer of them an embedding uses.
    planes = gaussians(DIMENSIONS, FUNCTIONS * BITS, hashing.stream("density/planes", seed))
    above = (user_embeddings(rows, shared) @ planes) > 0
    return above.reshape(rows.n_users, FUNCTIONS, BITS) @ (1 << np.arange(BITS))


def density(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Whole users, drawn without replacement with p ∝ 1 / density."""
    buckets = hash_users(rows, shared, seed)
    # The sum instead of the mean over R: the proportions are the same.
    near = shared["sketch"][np.arange(FUNCTIONS), buckets].sum(axis=1)
    draws = hashing.combine(hashing.stream("density/keys", seed), rows.user_hash)
    keys = weighted_keys(1.0 / np.maximum(near, 1), draws)
    return Scores(keys, rows.user_hash, rows.counts)


DENSITY = Sampler("density", density, rounds=DensitySketch)
