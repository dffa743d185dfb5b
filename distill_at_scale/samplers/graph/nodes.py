"""The bipartite graph of users and items, whose edges are the train rows: nodes are scored, edges are kept."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.train_rows import TrainRows


def item_draws(n_items: int, begin: hashing.Stream) -> np.ndarray:
    """Draws a number for each item, uint64 [items], the same in every shard."""
    return hashing.combine(begin, np.arange(n_items, dtype=np.uint64))


def edge_scores(rows: TrainRows, user_keys: np.ndarray, item_keys: np.ndarray, seed: int) -> Scores:
    """Scores rows for a sampler that drops nodes with their edges: a row has the score of the node dropped first.

    Args:
        rows: Train rows of the shard.
        user_keys, item_keys: uint64 [users], [items]; smaller keys are kept first, and a draw orders equal keys.
        seed: Seed of those draws.
    """
    user_ties = hashing.combine(hashing.stream("graph/ties of users", seed), rows.user_hash)
    item_ties = item_draws(rows.n_items, hashing.stream("graph/ties of items", seed))
    user_key, item_key = user_keys[rows.owner], item_keys[rows.items]
    user_tie, item_tie = user_ties[rows.owner], item_ties[rows.items]
    user_first = (user_key > item_key) | ((user_key == item_key) & (user_tie >= item_tie))
    return Scores(np.where(user_first, user_key, item_key), np.where(user_first, user_tie, item_tie))
