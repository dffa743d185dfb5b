"""What random walk and forest fire share: nodes of the user–item graph that are reached one hop after another.

In a pass everything moves by one hop. A user's rows lie in one shard, an item's in all: which users an item leads
to is decided by a race, in which every shard names its rows with the smallest draws and the smallest of all win.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.graph.nodes import edge_scores, item_draws
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.train_rows import TrainRows

NEVER = 1 << 62
"""The time of a node that was not reached."""


class Traversal(ABC):
    """What a kind of spreading is made of: how it begins when the nodes are known, and what a hop is."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def begin(self) -> Arrays:
        return {}

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        if shared:
            return self._hop(rows, own, shared)
        # Nothing is reached yet; the items' degrees and the number of users with rows are not known either.
        degree = np.bincount(rows.items, minlength=self._task.n_items).astype(np.int64)
        time = np.full(rows.n_users, NEVER, dtype=np.int64)
        return {"time": time}, {"degree": degree, "users": np.array([(rows.counts > 0).sum()], dtype=np.int64)}

    def reduce(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        if shared:
            return self._after_hop(shared, brought)
        n_nodes = int(brought["users"][0]) + int((brought["degree"] > 0).sum())
        return {
            "hop": np.zeros(1, dtype=np.int64),
            "degree": brought["degree"],
            "time": np.full(self._task.n_items, NEVER, dtype=np.int64),
            **self._first(n_nodes),
        }, 0.0

    @abstractmethod
    def _first(self, n_nodes: int) -> Arrays:
        """What is shared at the first hop beside hop, degree and time, given the nodes that have rows."""

    @abstractmethod
    def _hop(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        """A shard's part of a hop: what it keeps, and what it brings back."""

    @abstractmethod
    def _after_hop(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        """What the next hop shares, and the share of the work that is done."""


def by_time(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """The nodes reached first are kept first (of those reached at once, by draw), and last those never reached."""
    return edge_scores(rows, own["time"].view(np.uint64), shared["time"].view(np.uint64), seed)


def locate(rows: TrainRows, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``hashes`` (uint64, of users) that belong to users of this shard, and their positions here."""
    order = np.argsort(rows.user_hash)
    place = np.minimum(np.searchsorted(rows.user_hash[order], hashes), max(rows.n_users - 1, 0))
    if rows.n_users == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    found = np.flatnonzero(rows.user_hash[order[place]] == hashes)
    return found, order[place[found]]


def smallest(groups: np.ndarray, draws: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of the ``wanted[g]`` smallest draws in each group g, ordered by group and draw."""
    # Sorting all would be most of the work: a draw is uniform, so the smallest few are below a bound that follows
    # from how many there are, or else, seldom, the whole group is sorted.
    size = np.bincount(groups, minlength=len(wanted))
    bound = (wanted + 4 * np.sqrt(wanted) + 8) / np.maximum(size, 1)
    near = hashing.uniform(draws) < bound[groups]
    enough = np.bincount(groups[near], minlength=len(wanted)) >= np.minimum(wanted, size)
    where = np.flatnonzero(near | ~enough[groups])
    order = where[np.lexsort((draws[where], groups[where]))]
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered, side="left")
    return order[np.arange(len(order)) - first < wanted[ordered]]


def race(rows: TrainRows, seed: int, hop: int, wanted: np.ndarray, open_users: np.ndarray | None) -> Arrays:
    """For each item the ``wanted`` rows of this shard with the smallest draws: race_item · race_draw · race_user.

    Args:
        rows: of the shard.
        seed, hop: of the draws.
        wanted: int64 [n_items].
        open_users: bool [users], who may win; None for all.
    """
    running = wanted[rows.items] > 0
    if open_users is not None:
        running &= open_users[rows.owner]
    where = np.flatnonzero(running)
    items, users = rows.items[where].astype(np.int64), rows.user_hash[rows.owner[where]]
    draws = hashing.combine(hashing.stream("spreading/races", seed, hop), users, items.view(np.uint64))
    best = smallest(items, draws, wanted)
    return {"race_item": items[best], "race_draw": draws[best], "race_user": users[best]}


def winners(brought: Arrays, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(items, users' hashes) of the rows that win the races of all shards, ordered by item and draw."""
    items, users = brought["race_item"], brought["race_user"]
    # By user before by draw: an order that does not depend on which shard came first.
    order = np.argsort(users, kind="stable")
    items, users, draws = items[order], users[order], brought["race_draw"][order]
    best = smallest(items, draws, wanted)
    return items[best], users[best]


def propose_starts(rows: TrainRows, seed: int, time: np.ndarray, wanted: int) -> Arrays:
    """The shard's users that come first among those not reached: start_draw · start_user, at most ``wanted``."""
    where = np.flatnonzero((time == NEVER) & (rows.counts > 0)) if wanted else np.zeros(0, dtype=np.int64)
    draws = hashing.combine(hashing.stream("spreading/starts at users", seed), rows.user_hash[where])
    first = np.argsort(draws)[:wanted]
    return {"start_draw": draws[first], "start_user": rows.user_hash[where[first]]}


def choose_starts(brought: Arrays, seed: int, shared: Arrays, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``wanted`` of all nodes not reached: (hashes of users, items); an item of −1 marks a user."""
    items = np.flatnonzero((shared["time"] == NEVER) & (shared["degree"] > 0)) if wanted else np.zeros(0, np.int64)
    item_order = item_draws(shared["time"].size, hashing.stream("spreading/starts at items", seed))[items]
    draws = np.concatenate([brought["start_draw"], item_order])
    users = np.concatenate([brought["start_user"], np.zeros(len(items), dtype=np.uint64)])
    names = np.concatenate([np.full(len(brought["start_user"]), -1), items])
    first = np.lexsort((users, names, draws))[:wanted]
    return users[first], names[first]


def rows_between(rows: TrainRows, user_time: np.ndarray, item_time: np.ndarray) -> np.ndarray:
    """int64 [1]: rows of the shard both of whose ends are reached."""
    return np.array([((user_time[rows.owner] < NEVER) & (item_time[rows.items] < NEVER)).sum()], dtype=np.int64)
