"""Traversals of the user–item graph, hop by hop: the common part of random walk and forest fire.

Each pass moves everything by one hop. A user's rows are in one shard, an item's in all, so a race decides which users
an item leads to: every shard proposes its rows with the smallest draws, and the smallest of all win.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.data.ordering import order_by
from distill_at_scale.samplers.graph.nodes import edge_scores, item_draws
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.train_rows import TrainRows

NEVER = 1 << 62
"""Time of a node that was not reached."""


class Traversal(ABC):
    """Base class of traversals; subclasses define the initial state and a hop."""

    joins: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        self._task = task

    def begin(self) -> Arrays:
        return {}

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        if shared:
            return self._hop(rows, own, shared)
        # The first pass only counts the items' degrees and the users with rows.
        degree = np.bincount(rows.items, minlength=self._task.n_items).astype(np.int64)
        time = np.full(rows.n_users, NEVER, dtype=np.int64)
        return {"time": time}, {"degree": degree, "users": np.array([(rows.counts > 0).sum()], dtype=np.int64)}

    def reduce(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        if shared:
            return self._after_hop(shared, outputs)
        n_nodes = int(outputs["users"][0]) + int((outputs["degree"] > 0).sum())
        return {
            "hop": np.zeros(1, dtype=np.int64),
            "degree": outputs["degree"],
            "time": np.full(self._task.n_items, NEVER, dtype=np.int64),
            **self._first(n_nodes),
        }, 0.0

    @abstractmethod
    def _first(self, n_nodes: int) -> Arrays:
        """Returns the shared arrays of the first hop besides hop, degree and time, given the number of nodes with
        rows."""

    @abstractmethod
    def _hop(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        """Returns a shard's new state after a hop, and its outputs."""

    @abstractmethod
    def _after_hop(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        """Returns the shared arrays of the next hop, and the share of the work that is done."""


def by_time(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Keeps nodes in the order in which they were reached (ties by draw); unreached nodes come last."""
    return edge_scores(rows, own["time"].view(np.uint64), shared["time"].view(np.uint64), seed)


def locate(rows: TrainRows, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions in ``hashes`` (uint64, of users) of this shard's users, and their positions in the
    shard."""
    order = np.argsort(rows.user_hash)
    position = np.minimum(np.searchsorted(rows.user_hash[order], hashes), max(rows.n_users - 1, 0))
    if rows.n_users == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    local = np.flatnonzero(rows.user_hash[order[position]] == hashes)
    return local, order[position[local]]


def smallest(groups: np.ndarray, draws: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the positions of the ``wanted[g]`` smallest draws in each group g, ordered by group and draw."""
    # Sorting everything would dominate the cost. Draws are uniform, so the smallest few are almost always below a bound
    # that follows from the group's size; otherwise the whole group is sorted.
    size = np.bincount(groups, minlength=len(wanted))
    bound = (wanted + 4 * np.sqrt(wanted) + 8) / np.maximum(size, 1)
    near = hashing.uniform(draws) < bound[groups]
    enough = np.bincount(groups[near], minlength=len(wanted)) >= np.minimum(wanted, size)
    where = np.flatnonzero(near | ~enough[groups])
    order = where[order_by(groups[where], draws[where])]
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered, side="left")
    return order[np.arange(len(order)) - first < wanted[ordered]]


def race(rows: TrainRows, seed: int, hop: int, wanted: np.ndarray, open_users: np.ndarray | None) -> Arrays:
    """Returns, for each item, the ``wanted`` rows of this shard with the smallest draws.

    Args:
        rows: Train rows of the shard.
        seed, hop: Seed and hop of the draws.
        wanted: int64 [n_items].
        open_users: bool [users], users that may win; None for all.

    Returns:
        The arrays race_item, race_draw and race_user.
    """
    running = wanted[rows.items] > 0
    if open_users is not None:
        running &= open_users[rows.owner]
    where = np.flatnonzero(running)
    items, users = rows.items[where].astype(np.int64), rows.user_hash[rows.owner[where]]
    draws = hashing.combine(hashing.stream("spreading/races", seed, hop), users, items.view(np.uint64))
    best = smallest(items, draws, wanted)
    return {"race_item": items[best], "race_draw": draws[best], "race_user": users[best]}


def winners(outputs: Arrays, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (items, hashes of users) of the rows that win the races over all shards, ordered by item and draw."""
    items, users = outputs["race_item"], outputs["race_user"]
    # Sorted by user first, so that the result does not depend on the order of shards.
    order = np.argsort(users, kind="stable")
    items, users, draws = items[order], users[order], outputs["race_draw"][order]
    best = smallest(items, draws, wanted)
    return items[best], users[best]


def propose_starts(rows: TrainRows, seed: int, time: np.ndarray, wanted: int) -> Arrays:
    """Returns at most ``wanted`` of the shard's unreached users with the smallest draws: start_draw · start_user."""
    where = np.flatnonzero((time == NEVER) & (rows.counts > 0)) if wanted else np.zeros(0, dtype=np.int64)
    draws = hashing.combine(hashing.stream("spreading/starts at users", seed), rows.user_hash[where])
    first = np.argsort(draws)[:wanted]
    return {"start_draw": draws[first], "start_user": rows.user_hash[where[first]]}


def choose_starts(outputs: Arrays, seed: int, shared: Arrays, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ``wanted`` unreached nodes with the smallest draws: (hashes of users, items); item −1 marks a
    user."""
    items = np.flatnonzero((shared["time"] == NEVER) & (shared["degree"] > 0)) if wanted else np.zeros(0, np.int64)
    item_order = item_draws(shared["time"].size, hashing.stream("spreading/starts at items", seed))[items]
    draws = np.concatenate([outputs["start_draw"], item_order])
    users = np.concatenate([outputs["start_user"], np.zeros(len(items), dtype=np.uint64)])
    names = np.concatenate([np.full(len(outputs["start_user"]), -1), items])
    first = order_by(draws, names, users)[:wanted]
    return users[first], names[first]


def rows_between(rows: TrainRows, user_time: np.ndarray, item_time: np.ndarray) -> np.ndarray:
    """Counts the shard's rows whose user and item are both reached, int64 [1]."""
    return np.array([((user_time[rows.owner] < NEVER) & (item_time[rows.items] < NEVER)).sum()], dtype=np.int64)
