"""Centrality: the nodes of the user–item graph with the highest PageRank are kept, with the edges between them.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1; Page, Brin,
Motwani, Winograd, "The PageRank citation ranking" (1999), with the usual damping of .85 and every node as likely
to be teleported to. Nodes are the users and items that have train rows.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from distill_at_scale.samplers.graph.nodes import edge_scores
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import LAST, Scores
from distill_at_scale.samplers.train_rows import TrainRows

# Ranks are whole numbers that sum to about 2^60: their sums are exact, whatever the order of the shards.
MASS = 1 << 60
_TOLERANCE = 1e-10
_MOST_PASSES = 200


class PageRank:
    """Power iteration in passes.

    The graph is bipartite, so users' ranks follow from the items' and items' from the users': a pass does both,
    shrinks the error by .85² or better, and moves one number an item. Users' ranks never leave their shard.
    """

    listed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, task: Task) -> None:
        self._n_items = task.n_items

    def begin(self) -> Arrays:
        return {}

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        if not shared:
            degree = np.bincount(rows.items, minlength=self._n_items).astype(np.int64)
            return {}, {"degree": degree, "users": np.array([(rows.counts > 0).sum()], dtype=np.int64)}
        share = user_ranks(rows, shared) // np.maximum(rows.counts, 1)
        return {}, {"inflow": _edges(rows).T @ share}

    def reduce(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        if not shared:
            degree, n_users = brought["degree"], int(brought["users"][0])
            n_items = int((degree > 0).sum())
            n = n_users + n_items
            # The mass of a side follows from M_U = .15 n_U / n + .85 M_I and its mirror image; within it the start
            # is by degree, which is what a walk without teleports ends at.
            of_items = (0.15 * n_items + 0.85 * 0.15 * n_users) / (n * (1 - 0.85**2))
            rank = (degree * (of_items * MASS / degree.sum())).astype(np.int64)
            teleport = np.array([3 * MASS // (20 * n)], dtype=np.int64)
            return {"rank": rank, "degree": degree, "teleport": teleport, "passes": np.zeros(1, np.int64)}, 0.0
        rank = _damped(brought["inflow"], shared["teleport"])
        rank[shared["degree"] == 0] = 0
        passes = shared["passes"] + 1
        change = np.abs(rank - shared["rank"]).astype(np.float64).sum()
        # The change shrinks by a factor a pass, so its logarithm goes evenly.
        share = np.log(max(change, 1.0) / MASS) / np.log(_TOLERANCE)
        return {**shared, "rank": rank, "passes": passes}, 1.0 if passes[0] >= _MOST_PASSES else float(share)


def _damped(inflow: np.ndarray, teleport: np.ndarray) -> np.ndarray:
    """teleport + .85 inflow, in whole numbers; 3 · 2^60 does not overflow."""
    return teleport + inflow - 3 * inflow // 20


def _edges(rows: TrainRows) -> sp.csr_array:
    ones = np.ones(len(rows), dtype=np.int64)
    return sp.csr_array((ones, rows.items, rows.offsets), shape=(rows.n_users, rows.n_items))


def user_ranks(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """int64 [users]: ranks of the shard's users, as shares of ``MASS``, given those of the items."""
    share = shared["rank"] // np.maximum(shared["degree"], 1)
    rank = _damped(_edges(rows) @ share, shared["teleport"])
    rank[rows.counts == 0] = 0
    return rank


def centrality(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """The highest-ranked nodes first; a row goes with the lower-ranked of its two."""
    users, items = user_ranks(rows, shared), shared["rank"]
    last = np.uint64(LAST)
    return edge_scores(rows, last - users.view(np.uint64), last - items.view(np.uint64), seed)


CENTRALITY = Sampler("centrality", centrality, rounds=PageRank)
