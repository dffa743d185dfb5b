"""SVP-CF: keeps the rows, or the users, that a small proxy model finds hardest.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.2 and 3.3
(selection via proxy; SVP-CF-Prop), after Coleman et al., "Selection via proxy" (ICLR 2020). A row's score is the mean
over the proxy's epochs (`row_scores`); this module turns it into an order.
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.evaluation import inverse_propensities
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, descending_keys
from distill_at_scale.samplers.train_rows import TrainRows


def squared_error(predicted: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """Scores rows with explicit feedback after an epoch, float64 [rows]."""
    return (predicted.astype(np.float64) - ratings) ** 2


def share_above(positive: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Scores rows with implicit or sequential feedback after an epoch, float64 [rows]: the share of a row's negatives
    that are ranked above it. Equal scores count half.

    Args:
        positive: [rows], scores of the rows' items.
        negatives: [rows, negatives], scores of items that the user has not seen.
    """
    above, same = negatives > positive[:, None], negatives == positive[:, None]
    return above.mean(axis=1) + 0.5 * same.mean(axis=1)


def row_weights(rows: TrainRows, item_counts: np.ndarray, n_rows: int) -> np.ndarray:
    """Returns the inverse propensity of each row, float64 [rows], the larger of its user's and its item's (section
    3.3).

    Args:
        rows: Train rows of the shard.
        item_counts: int64 [items], train rows of each item over all shards.
        n_rows: Number of train rows of all shards.
    """
    of_users = inverse_propensities(rows.counts, n_rows)
    of_items = inverse_propensities(item_counts, n_rows)
    return np.maximum(of_users[rows.owner], of_items[rows.items])


def interactions(rows: TrainRows, seed: int, scores: np.ndarray, weights: np.ndarray | None = None) -> Scores:
    """Keeps the rows with the highest scores.

    Args:
        rows: Train rows of the shard.
        seed: Seed of the draw between rows with equal scores.
        scores: float32 [rows], scores of the proxy.
        weights: float64 [rows], factors of the scores (SVP-CF-Prop); None: no weighting.
    """
    hard = scores.astype(np.float64) * (1.0 if weights is None else weights)
    # Rows with the same user, item and score are kept or dropped together.
    return Scores(descending_keys(hard), rows.draw(hashing.stream("svp/equal rows", seed)))


def users(rows: TrainRows, seed: int, scores: np.ndarray, weights: np.ndarray | None = None) -> Scores:
    """Keeps the users with the highest mean score, with all their rows; as :func:`interactions`."""
    hard = scores.astype(np.float64) * (1.0 if weights is None else weights)
    mean = np.bincount(rows.owner, weights=hard, minlength=rows.n_users) / np.maximum(rows.counts, 1)
    ties = hashing.combine(hashing.stream("svp/equal users", seed), rows.user_hash)
    return Scores(descending_keys(mean), ties, rows.counts)


# The variants with one proxy read the same row scores.
SVP_BIAS = Sampler("svp_bias", interactions, proxy="bias")
SVP_BIAS_PROP = Sampler("svp_bias_prop", interactions, proxy="bias", prop=True)
SVP_BIAS_USERS = Sampler("svp_bias_users", users, proxy="bias")
SVP_BIAS_USERS_PROP = Sampler("svp_bias_users_prop", users, proxy="bias", prop=True)
SVP_MF = Sampler("svp_mf", interactions, proxy="mf")
SVP_MF_PROP = Sampler("svp_mf_prop", interactions, proxy="mf", prop=True)
SVP_MF_USERS = Sampler("svp_mf_users", users, proxy="mf")
SVP_MF_USERS_PROP = Sampler("svp_mf_users_prop", users, proxy="mf", prop=True)
