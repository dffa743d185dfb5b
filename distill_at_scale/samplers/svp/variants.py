"""SVP-CF: the rows, or the users, that a small proxy model finds hardest are kept.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.2 and 3.3
(selection via proxy; SVP-CF-Prop), after Coleman et al., "Selection via proxy" (ICLR 2020). What the proxy says of a
row is the mean over its epochs (`row_scores`); here that becomes a place in the order.
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.evaluation import inverse_propensities
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, descending_keys
from distill_at_scale.samplers.train_rows import TrainRows


def squared_error(predicted: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """float64 [rows]: what an epoch says of rows with explicit feedback."""
    return (predicted.astype(np.float64) - ratings) ** 2


def share_above(positive: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """float64 [rows]: the share of a row's negatives that are ranked above it; what an epoch says of implicit or
    sequential feedback. One that is scored the same counts half.

    Args:
        positive: [rows], the rows' scores.
        negatives: [rows, negatives], scores of items that the user has not seen.
    """
    above, same = negatives > positive[:, None], negatives == positive[:, None]
    return above.mean(axis=1) + 0.5 * same.mean(axis=1)


def row_weights(rows: TrainRows, item_counts: np.ndarray, n_rows: int) -> np.ndarray:
    """float64 [rows]: inverse propensity of each row, the larger of its user's and its item's (section 3.3).

    Args:
        rows: of the shard.
        item_counts: int64 [items], train rows of each item over all shards.
        n_rows: train rows of all shards.
    """
    of_users = inverse_propensities(rows.counts, n_rows)
    of_items = inverse_propensities(item_counts, n_rows)
    return np.maximum(of_users[rows.owner], of_items[rows.items])


def interactions(rows: TrainRows, seed: int, scores: np.ndarray, weights: np.ndarray | None = None) -> Scores:
    """The rows with the highest scores.

    Args:
        rows: of the shard.
        seed: of the draw between rows of equal score.
        scores: float32 [rows], of the proxy.
        weights: float64 [rows], to multiply the scores with (SVP-CF-Prop); None for none.
    """
    hard = scores.astype(np.float64) * (1.0 if weights is None else weights)
    # Rows of one user and item that have one score, too, are kept or dropped together.
    return Scores(descending_keys(hard), rows.draw(hashing.stream("svp/equal rows", seed)))


def users(rows: TrainRows, seed: int, scores: np.ndarray, weights: np.ndarray | None = None) -> Scores:
    """The users with the highest mean over their rows, with all of them; as :func:`interactions`."""
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
