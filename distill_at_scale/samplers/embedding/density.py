"""Density: users in sparse regions are kept with a higher probability than users with many similar ones.

Source: Sachdeva et al., "How to train data-efficient LLMs" (arXiv 2402.09668), section 4.2 and algorithm 1: in one
pass, R hash functions count the points in each of B buckets; the mean count of a point's buckets estimates its kernel
density, here with the kernel (1 − angle / π)^8 on users' embeddings. Points are drawn with p ∝ 1 / density, as the
theorem states (the printed algorithm ends with p ∝ density).
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers import inclusion
from distill_at_scale.samplers.embedding.vectors import DIMENSIONS, EmbeddingPasses, gaussians, user_embeddings
from distill_at_scale.samplers.map_reduce import Arrays
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, weighted_keys
from distill_at_scale.samplers.train_rows import TrainRows

FUNCTIONS = 64
BITS = 8
"""Bits of a hash: on which sides of this many random planes a point lies."""


class DensitySketch(EmbeddingPasses):
    """Adds one pass after the embedding, which fills the sketch; the shards' sketches are summed."""

    def map_embedded(self, rows: TrainRows, shared: Arrays) -> Arrays:
        buckets = hash_users(rows, shared, self.task.seed)[rows.counts > 0]
        flat = buckets + (np.arange(FUNCTIONS) << BITS)
        return {"sketch": np.bincount(flat.ravel(), minlength=FUNCTIONS << BITS).reshape(FUNCTIONS, 1 << BITS)}

    def reduce_embedded(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        return {**shared, "sketch": outputs["sketch"].astype(np.int64)}, 1.0


def hash_users(rows: TrainRows, shared: Arrays, seed: int) -> np.ndarray:
    """Returns the bucket of each user's embedding under each hash function, int64 [users, R]."""
    # Planes must be uniform in direction, as those of the normal distribution are, to separate points in proportion to
    # their angle. In 16 dimensions planes of ±1 are not, the less so the fewer dimensions an embedding uses.
    planes = gaussians(DIMENSIONS, FUNCTIONS * BITS, hashing.stream("density/planes", seed))
    above = (user_embeddings(rows, shared) @ planes) > 0
    return above.reshape(rows.n_users, FUNCTIONS, BITS) @ (1 << np.arange(BITS))


def density(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Keeps whole users, drawn without replacement with p ∝ 1 / density."""
    buckets = hash_users(rows, shared, seed)
    # The sum instead of the mean over R gives the same proportions.
    near = shared["sketch"][np.arange(FUNCTIONS), buckets].sum(axis=1)
    draws = hashing.combine(hashing.stream("density/keys", seed), rows.user_hash)
    weights = 1.0 / np.maximum(near, 1)
    return Scores(weighted_keys(weights, draws), rows.user_hash, rows.counts, weights.astype(np.float32))


DENSITY = Sampler("density", density, map_reduce=DensitySketch, inclusion=inclusion.of_weighted_keys)
