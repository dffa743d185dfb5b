"""Centrality: keeps the nodes of the user–item graph with the highest PageRank, with the edges between them.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1; Page, Brin,
Motwani, Winograd, "The PageRank citation ranking" (1999), with the usual damping of 0.85 and uniform teleportation.
Nodes are the users and items with train rows.
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

# Ranks are integers that sum to about 2^60: their sums are exact for any order of shards.
MASS = 1 << 60
_TOLERANCE = 1e-10
_MOST_PASSES = 200


class PageRank:
    """Power iteration in map-reduce passes.

    The graph is bipartite, so users' ranks follow from the items' and vice versa. A pass computes both, shrinks the
    error by 0.85² or better, and communicates one number per item. Users' ranks stay in their shard.
    """

    listed: ClassVar[frozenset[str]] = frozenset()
    joins: ClassVar[bool] = True

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

    def reduce(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        if not shared:
            degree, n_users = outputs["degree"], int(outputs["users"][0])
            n_items = int((degree > 0).sum())
            n = n_users + n_items
            # The mass of the items follows from M_U = 0.15 n_U / n + 0.85 M_I and its mirror image. Within it the
            # initial ranks are proportional to degree, the limit of a walk without teleportation.
            of_items = (0.15 * n_items + 0.85 * 0.15 * n_users) / (n * (1 - 0.85**2))
            rank = (degree * (of_items * MASS / degree.sum())).astype(np.int64)
            teleport = np.array([3 * MASS // (20 * n)], dtype=np.int64)
            return {"rank": rank, "degree": degree, "teleport": teleport, "passes": np.zeros(1, np.int64)}, 0.0
        rank = _damped(outputs["inflow"], shared["teleport"])
        rank[shared["degree"] == 0] = 0
        passes = shared["passes"] + 1
        change = np.abs(rank - shared["rank"]).astype(np.float64).sum()
        # The change shrinks by a constant factor per pass, so its logarithm measures progress.
        share = np.log(max(change, 1.0) / MASS) / np.log(_TOLERANCE)
        return {**shared, "rank": rank, "passes": passes}, 1.0 if passes[0] >= _MOST_PASSES else float(share)


def _damped(inflow: np.ndarray, teleport: np.ndarray) -> np.ndarray:
    """Returns teleport + 0.85 inflow, in integers; 3 · 2^60 does not overflow."""
    return teleport + inflow - 3 * inflow // 20


def _edges(rows: TrainRows) -> sp.csr_array:
    ones = np.ones(len(rows), dtype=np.int64)
    return sp.csr_array((ones, rows.items, rows.offsets), shape=(rows.n_users, rows.n_items))


def user_ranks(rows: TrainRows, shared: Arrays) -> np.ndarray:
    """Returns the ranks of the shard's users, int64 [users], as shares of ``MASS``, given those of the items."""
    share = shared["rank"] // np.maximum(shared["degree"], 1)
    rank = _damped(_edges(rows) @ share, shared["teleport"])
    rank[rows.counts == 0] = 0
    return rank


def centrality(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Keeps the highest-ranked nodes first; a row has the lower rank of its two nodes."""
    users, items = user_ranks(rows, shared), shared["rank"]
    last = np.uint64(LAST)
    return edge_scores(rows, last - users.view(np.uint64), last - items.view(np.uint64), seed)


CENTRALITY = Sampler("centrality", centrality, map_reduce=PageRank)
