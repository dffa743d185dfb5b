"""A small dataset with ties, twelve small models, and the slow twin of the ranking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from distill_at_scale.data.columns import HISTORIES, History
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation.ties import places, salts
from distill_at_scale.models import Recommender, create_model

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import Row, write_dataset

FEW = {"epochs": 2, "batch_size": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "ease": {"lam": 5.0},
    "svd_ae": {"rank": 3},
    "infinite_ae": {"lam": 1.0},
    "als": {"dim": 4, "lam": 0.1},
    "elsa": {**FEW, "dim": 4},
    "bias": FEW,
    "mf": {**FEW, "dim": 4},
    "neumf": {**FEW, "dim": 4},
    "mvae": FEW,
    "svae": FEW,
    "sasrec": {**FEW, "dim": 8},
    "gru4rec": {**FEW, "dim": 8},
    "lightgcn": {**FEW, "dim": 4, "layers": 1},
}
N_ITEMS = 23


def make_dataset(folder: Path, users: tuple[int, ...] = (9, 14, 4)) -> Dataset:
    """Shards of so many users with 3 to 8 items each, the last two held out; some items have no row, others as many
    as each other."""
    rng, shards, first = np.random.default_rng(7), [], 0
    for n_users in users:
        rows: list[Row] = []
        for user in range(first, first + n_users):
            items = rng.permutation(N_ITEMS - 5)[: rng.integers(3, 9)].tolist()
            splits = [0] * (len(items) - 2) + [1, 2]
            rows += [(user, item, 1.0, time, split) for time, (item, split) in enumerate(zip(items, splits))]
        shards.append(rows)
        first += n_users
    return write_dataset(folder, shards, list(users), N_ITEMS)


def fitted(name: str, dataset: Dataset) -> Recommender:
    model = create_model(name, SETTINGS[name])
    return model.fit(dataset.interactions("train"), item_space=dataset.manifest.item_space)


def slow_lists(
    model: Recommender, dataset: Dataset, k: int, history: History = "all", include_seen: bool = False
) -> list[tuple[str, int, int, float]]:
    """(user_id, item_id, rank, score) of every user: all items sorted by (-score, draw), one by one."""
    found = []
    for shard in range(len(dataset.shards)):
        histories = dataset.interactions(*HISTORIES[history], shards=[shard])
        scores, salt = model.score(histories), salts(histories.users)
        for row, user in enumerate(dataset.users(shard)["user_id"]):
            seen = set(histories.slice(row, row + 1).items.tolist())
            left = [item for item in range(dataset.n_items) if include_seen or item not in seen]
            draw = {item: int(places(np.array([item]), salt[row : row + 1])[0]) for item in left}
            best = sorted(left, key=lambda item: (-float(scores[row, item]), draw[item]))[:k]
            found += [(user, 10 * item, rank, float(scores[row, item])) for rank, item in enumerate(best, 1)]
    return found
