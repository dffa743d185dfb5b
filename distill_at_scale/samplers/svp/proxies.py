"""The proxy models of SVP-CF: small, trained for a fixed number of epochs, asked after each how hard every row is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model
from distill_at_scale.models.training.batches import pair_keys
from distill_at_scale.models.training.user_table import UserTableRecommender
from distill_at_scale.samplers.svp import Objective, Proxy
from distill_at_scale.samplers.svp.variants import share_above, squared_error

_BATCH = 1024
# A billion rows in batches of 1024 would be a million steps an epoch: larger batches keep it at this many.
_MOST_STEPS = 2000
_NEGATIVES = 20
_REDRAWS = 8
_BLOCK = 1 << 16


def proxy_model(proxy: Proxy, objective: Objective, n_rows: int, seed: int, epochs: int) -> UserTableRecommender:
    """An untrained proxy with the settings of the paper's code: width 10, dropout .3, weight decay 1e-6, Adam with
    rate .006 and (.9, .98), batches of 1024 rows (larger beyond two million rows)."""
    settings = {
        "objective": "explicit" if objective == "explicit" else "implicit",
        "epochs": epochs,
        "batch_size": max(_BATCH, -(-n_rows // _MOST_STEPS)),
        "learning_rate": 0.006,
        "betas": (0.9, 0.98),
        "weight_decay": 1e-6,
        "seed": seed,
        **({"dim": 10, "dropout": 0.3, "negatives": 1} if proxy == "mf" else {}),
    }
    model = create_model(proxy, settings)
    assert isinstance(model, UserTableRecommender)
    return model


def hardness(model: UserTableRecommender, module: Any, rows: Interactions, rng: np.random.Generator) -> np.ndarray:
    """float64 [rows]: how hard the proxy finds each of some users' train rows now.

    With the explicit objective the squared error; else the share of 20 items drawn from those that the user has not
    in ``rows`` which are ranked above the row's item.

    Args:
        model: the proxy.
        module: its module, in eval mode.
        rows: all train rows of some users.
        rng: of the draws.
    """
    users = np.repeat(rows.users, rows.counts)
    items = rows.items.astype(np.int64)
    seen = np.unique(pair_keys(users, items, rows.n_items))
    found = np.empty(rows.n_rows)
    with torch.no_grad():
        user_table, item_table = module.tables()
        for start in range(0, rows.n_rows, _BLOCK):
            block = slice(start, start + _BLOCK)
            chosen = items[block, None]
            if model.config.objective == "implicit":
                chosen = np.concatenate((chosen, _unseen(seen, users[block], rows.n_items, rng)), axis=1)
            vectors = user_table[torch.from_numpy(users[block]).to(user_table.device)]
            others = item_table[torch.from_numpy(chosen).to(item_table.device)]
            scores = module.pairs(vectors, others)
            if model.config.objective == "explicit":
                predicted = (module.mean + scores[:, 0]).cpu().numpy()
                ratings = np.ones(len(predicted)) if rows.ratings is None else rows.ratings[block]
                found[block] = squared_error(predicted, ratings)
            else:
                values = scores.float().cpu().numpy()
                found[block] = share_above(values[:, 0], values[:, 1:])
    return found


def _unseen(seen: np.ndarray, users: np.ndarray, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [b, 20]: items drawn for each user that are not in ``seen`` (sorted keys), as far as a few draws go."""
    drawn = rng.integers(n_items, size=len(users) * _NEGATIVES)
    users = np.repeat(users, _NEGATIVES)
    # Looked up is what is new alone: most draws are right the first time.
    open_ = np.arange(len(drawn))
    for _ in range(_REDRAWS):
        keys = pair_keys(users[open_], drawn[open_], n_items)
        open_ = open_[seen[np.minimum(np.searchsorted(seen, keys), len(seen) - 1)] == keys]
        if not len(open_):
            break
        drawn[open_] = rng.integers(n_items, size=len(open_))
    return drawn.reshape(-1, _NEGATIVES)
