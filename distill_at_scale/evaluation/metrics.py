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
"""

from __future__ import annotations

import math

import numpy as np

from distill_at_scale.data import ragged


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


def ranking_metrics(
    hits: np.ndarray,
    gains: np.ndarray,
    heldout_counts: np.ndarray,
    heldout_gains: np.ndarray,
    ks: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Computes all ranking metrics for a batch of users who all have held-out items.

    Args:
        hits: bool [b, K], whether the item at each rank is held out; K < max(ks) in a small catalogue.
        gains: float64 [b, K], inverse propensities p_i of the items at each rank.
        heldout_counts: int64 [b], \\|T\\| ≥ 1.
        heldout_gains: float64 [Σ\\|T\\|], p_i of the held-out items, users in order, descending within each user.
        ks: Cut-offs.

    Returns:
        name -> float64 [b].
    """
    width = hits.shape[1]
    discounts = 1.0 / np.log2(np.arange(2, max(width, int(heldout_counts.max())) + 2))
    ideal_dcg = np.concatenate(([0.0], np.cumsum(discounts)))
    owner = np.repeat(np.arange(len(heldout_counts)), heldout_counts)
    rank = ragged.positions(heldout_counts)
    first_hit = np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)

    metrics: dict[str, np.ndarray] = {}
    for k in ks:
        top = hits[:, :k]
        n_hits = top.sum(axis=1).astype(np.float64)
        reachable = np.minimum(heldout_counts, k)
        inside = rank < k
        best_gain = np.bincount(owner[inside], weights=heldout_gains[inside], minlength=len(heldout_counts))
        gain = np.where(top, gains[:, :k], 0.0).sum(axis=1)
        metrics[f"hr@{k}"] = n_hits / reachable
        metrics[f"recall@{k}"] = n_hits / heldout_counts
        metrics[f"precision@{k}"] = n_hits / k
        metrics[f"ndcg@{k}"] = top @ discounts[: top.shape[1]] / ideal_dcg[reachable]
        metrics[f"mrr@{k}"] = np.where(first_hit < k, 1.0 / (first_hit + 1.0), 0.0)
        metrics[f"psp@{k}"] = gain / reachable / best_gain
    return metrics
