"""Ranking metrics for a batch of users at once, computed from which ranks of their top-k lists are hits.

With T the user's held-out set (at least one item) and "top-k" the k unseen items with the highest scores:

==============  ======================================================================================
``hr@k``        \\|top-k ∩ T\\| / min(\\|T\\|, k); the ∞-AE paper's HR, elsewhere called truncated recall
``recall@k``    \\|top-k ∩ T\\| / \\|T\\|
``precision@k`` \\|top-k ∩ T\\| / k
``ndcg@k``      DCG@k over the DCG@k of the best possible list; binary gain, discount 1 / log2(rank + 1)
``mrr@k``       1 / rank of the first hit, 0 if none is within k
``psp@k``       [Σ over top-k ∩ T of p_i / m] / [Σ of the m largest p_i of T], m = min(\\|T\\|, k)
==============  ======================================================================================

``psp@k`` is propensity-scored precision as Sachdeva et al. (NeurIPS 2022, "Infinite Recommendation Networks")
compute it: the numerator is divided by m, the normaliser is not.

A new metric is a :class:`RankingMetric` here and its name in `registry`; from outside the package, an entry point of
the group ``distill_at_scale.metrics``, or ``package.module:METRIC@10`` in a model's setting ``metric``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distill_at_scale.data import ragged
from distill_at_scale.registry import METRICS


def inverse_propensities(item_counts: np.ndarray, n_rows: int, a: float = 0.55, b: float = 1.5) -> np.ndarray:
    """Returns the weight of a hit on each item in ``psp``: p_i = 1 + C (n_i + B)^-A, C = (ln N - 1)(B + 1)^A.

    Source: Jain, Prabhu, Varma, "Extreme multi-label loss functions" (KDD 2016), with its default A and B.

    Args:
        item_counts: int64 [n_items], n_i, train rows of each item.
        n_rows: N, total number of train rows.
        a, b: A and B.

    Returns:
        float64 [n_items], all ≥ 1 for N ≥ 3.
    """
    c = (math.log(max(n_rows, 1)) - 1.0) * (b + 1.0) ** a
    return 1.0 + c * (np.asarray(item_counts, dtype=np.float64) + b) ** -a


@dataclass(frozen=True)
class Ranked:
    """The top-k lists of b users with held-out items, in the form that metrics use.

    Attributes:
        k: the cut-off.
        hits: bool [b, w], whether the item at each rank is held out; w < k in a small catalogue.
        gains: float64 [b, w], weights p_i of the items at each rank.
        n_heldout: int64 [b], \\|T\\| ≥ 1.
        n_hits: float64 [b], of the list.
        reachable: int64 [b], min(\\|T\\|, k).
        first_hit: float64 [b], rank of the first hit from 0 on, also beyond k; infinite without one.
        discounts: float64 [≥ w], 1 / log2(rank + 1).
        ideal_dcg: float64 [≥ reachable + 1], DCG of this many hits at the head of a list.
        best_gain: float64 [b], the sum of the ``reachable`` largest weights of T.
    """

    k: int
    hits: np.ndarray
    gains: np.ndarray
    n_heldout: np.ndarray
    n_hits: np.ndarray
    reachable: np.ndarray
    first_hit: np.ndarray
    discounts: np.ndarray
    ideal_dcg: np.ndarray
    best_gain: np.ndarray


@dataclass(frozen=True)
class RankingMetric:
    """A metric of top-k lists.

    Attributes:
        of: from :class:`Ranked` lists to a value a user, float64 [b]; larger is better.
        weighted: whether it looks at the weights of items, which only some models have when they choose settings.
    """

    of: Callable[[Ranked], np.ndarray]
    weighted: bool = False


HR = RankingMetric(lambda r: r.n_hits / r.reachable)
RECALL = RankingMetric(lambda r: r.n_hits / r.n_heldout)
PRECISION = RankingMetric(lambda r: r.n_hits / r.k)
NDCG = RankingMetric(lambda r: r.hits @ r.discounts[: r.hits.shape[1]] / r.ideal_dcg[r.reachable])
MRR = RankingMetric(lambda r: np.where(r.first_hit < r.k, 1.0 / (r.first_hit + 1.0), 0.0))
PSP = RankingMetric(
    lambda r: np.where(r.hits, r.gains, 0.0).sum(axis=1) / r.reachable / r.best_gain,
    weighted=True,
)


def ranking_metrics(
    hits: np.ndarray,
    gains: np.ndarray,
    heldout_counts: np.ndarray,
    heldout_gains: np.ndarray,
    ks: tuple[int, ...],
    more: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Computes all ranking metrics for a batch of users who all have held-out items.

    Args:
        hits: bool [b, K], whether the item at each rank is held out; K < max(ks) in a small catalogue.
        gains: float64 [b, K], inverse propensities p_i of the items at each rank.
        heldout_counts: int64 [b], \\|T\\| ≥ 1.
        heldout_gains: float64 [Σ\\|T\\|], p_i of the held-out items, users in order, descending within each user.
        ks: Cut-offs.
        more: metrics beside those of the table, as ``package.module:METRIC``.

    Returns:
        name -> float64 [b].
    """
    width = hits.shape[1]
    discounts = 1.0 / np.log2(np.arange(2, max(width, int(heldout_counts.max())) + 2))
    ideal_dcg = np.concatenate(([0.0], np.cumsum(discounts)))
    owner = np.repeat(np.arange(len(heldout_counts)), heldout_counts)
    rank = ragged.positions(heldout_counts)
    first_hit = np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)

    table: list[tuple[str, RankingMetric]] = [(name, METRICS.find(name)) for name in (*METRICS, *more)]
    metrics: dict[str, np.ndarray] = {}
    for k in ks:
        top, inside = hits[:, :k], rank < k
        ranked = Ranked(
            k=k,
            hits=top,
            gains=gains[:, :k],
            n_heldout=heldout_counts,
            n_hits=top.sum(axis=1).astype(np.float64),
            reachable=np.minimum(heldout_counts, k),
            first_hit=first_hit,
            discounts=discounts,
            ideal_dcg=ideal_dcg,
            best_gain=np.bincount(owner[inside], weights=heldout_gains[inside], minlength=len(heldout_counts)),
        )
        for name, metric in table:
            metrics[f"{name}@{k}"] = metric.of(ranked)
    return metrics
