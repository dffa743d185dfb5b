"""Proxy models of SVP-CF: small, trained for a fixed number of epochs, and scoring every row after each epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model
from distill_at_scale.models.item_table import look_up
from distill_at_scale.models.training.batches import distinct_pairs, pair_keys
from distill_at_scale.models.training.user_table import UserTableRecommender
from distill_at_scale.samplers.svp import Objective, Proxy
from distill_at_scale.samplers.svp.variants import share_above, squared_error

BATCH = 1024
"""Smallest number of rows a step."""
# A billion rows in batches of 1024 would take a million steps per epoch; larger batches limit the number of steps.
_MOST_STEPS = 2000
_NEGATIVES = 20
_REDRAWS = 8
_BLOCK = 1 << 16
MOST_OWN_ITEMS = 10 << 20
"""Number of items up to which each has a vector of its own in the MF proxy: with gradients and Adam's moments, 2 GiB in
every worker. Beyond, all are sums of two shared vectors, chosen by hashes, and frequent items have their own as well.
"""
# Settings that only some proxies have; those of many items.
_OWN: dict[Proxy, dict[str, Any]] = {"mf": {"dim": 10, "dropout": 0.3, "negatives": 1}}
_SHARED: dict[Proxy, dict[str, Any]] = {"mf": {"items": "hash", "books": 2, "book_size": 1 << 18, "own_items": 1 << 17}}


def proxy_model(
    proxy: Proxy, objective: Objective, n_rows: int, n_items: int, seed: int, epochs: int
) -> UserTableRecommender:
    """Returns an untrained proxy with the settings of the paper's code: width 10, dropout 0.3, weight decay 1e-6, Adam
    with rate 0.006 and (0.9, 0.98), batches of 1024 rows (larger beyond two million rows); beyond ten million items
    most vectors are composed of shared ones."""
    settings = {
        "objective": "explicit" if objective == "explicit" else "implicit",
        "epochs": epochs,
        "batch_size": max(BATCH, -(-n_rows // _MOST_STEPS)),
        "learning_rate": 0.006,
        "betas": (0.9, 0.98),
        "weight_decay": 1e-6,
        "seed": seed,
        **_OWN.get(proxy, {}),
        **(_SHARED.get(proxy, {}) if n_items > MOST_OWN_ITEMS else {}),
    }
    model = create_model(proxy, settings)
    assert isinstance(model, UserTableRecommender)
    return model


def hardness(model: UserTableRecommender, module: Any, rows: Interactions, rng: np.random.Generator) -> np.ndarray:
    """Returns how hard the proxy currently finds each train row of some users, float64 [rows].

    With the explicit objective this is the squared error; otherwise it is the share of 20 items, drawn from those that
    the user does not have in ``rows``, which are ranked above the row's item. A proxy that ranks the items alike for
    all users needs no draws: it is the share of all such items.

    Args:
        model: Proxy model.
        module: Module of the proxy, in eval mode.
        rows: All train rows of some users.
        rng: Generator of the draws.
    """
    users = np.repeat(rows.users, rows.counts)
    items = rows.items.astype(np.int64)
    seen = distinct_pairs(users, items, rows.n_items)
    scores_of_rows = np.empty(rows.n_rows)
    with torch.no_grad():
        user_table, item_table = module.tables()
        if model.config.objective == "implicit" and not model.personal:
            ranking = module.all_items(user_table[:1], item_table[:])[0].float().cpu().numpy()
            return share_of_unseen_above(ranking, seen, users, items)
        for start in range(0, rows.n_rows, _BLOCK):
            block = slice(start, start + _BLOCK)
            chosen = items[block, None]
            if model.config.objective == "implicit":
                chosen = np.concatenate((chosen, _unseen(seen, users[block], rows.n_items, rng)), axis=1)
            vectors = user_table[torch.from_numpy(users[block]).to(user_table.device)]
            others = look_up(item_table, torch.from_numpy(chosen).to(item_table.device))
            scores = module.pairs(vectors, others)
            if model.config.objective == "explicit":
                predicted = (module.mean + scores[:, 0]).cpu().numpy()
                ratings = np.ones(len(predicted)) if rows.ratings is None else rows.ratings[block]
                scores_of_rows[block] = squared_error(predicted, ratings)
            else:
                values = scores.float().cpu().numpy()
                scores_of_rows[block] = share_above(values[:, 0], values[:, 1:])
    return scores_of_rows


def share_of_unseen_above(ranking: np.ndarray, seen: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns the share of the items unseen by the row's user that are ranked above the row's item, float64 [rows].

    This is the mean of :func:`~distill_at_scale.samplers.svp.variants.share_above` over all draws. A user who has all
    items gets ½.

    Args:
        ranking: [n_items], scores of the items for every user.
        seen: Pairs of users and their items, as of :func:`distinct_pairs`.
        users, items: int64 [rows], rows; the pairs are in ``seen``.
    """
    n_items = len(ranking)
    values, places = np.unique(ranking, return_inverse=True)
    # Number of items at most as high as each.
    up_to = np.cumsum(np.bincount(places, minlength=len(values)))
    owners, own = np.divmod(seen, n_items)
    ranked = np.sort(pair_keys(owners, places[own], n_items))
    of_rows = places[items]
    begin, end = (np.searchsorted(seen, (users + more) * n_items) for more in (0, 1))
    keys = pair_keys(users, of_rows, n_items)
    below, at_most = (np.searchsorted(ranked, keys, side=side) for side in ("left", "right"))
    same = up_to[of_rows] - np.append(0, up_to)[of_rows] - (at_most - below)
    above = n_items - up_to[of_rows] - (end - at_most)
    unseen = n_items - (end - begin)
    return np.where(unseen > 0, (above + 0.5 * same) / np.maximum(unseen, 1), 0.5)


def _unseen(seen: np.ndarray, users: np.ndarray, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """Draws 20 items per user that are not in ``seen`` (sorted keys), int64 [b, 20]; redraws only a few times."""
    drawn = rng.integers(n_items, size=len(users) * _NEGATIVES)
    users = np.repeat(users, _NEGATIVES)
    # Only new draws are looked up: most are valid the first time.
    open_ = np.arange(len(drawn))
    for _ in range(_REDRAWS):
        keys = pair_keys(users[open_], drawn[open_], n_items)
        open_ = open_[seen[np.minimum(np.searchsorted(seen, keys), len(seen) - 1)] == keys]
        if not len(open_):
            break
        drawn[open_] = rng.integers(n_items, size=len(open_))
    return drawn.reshape(-1, _NEGATIVES)
