"""Random walk with restart: keeps the nodes of the user–item graph that walkers reach, with the rows between them.

Source: Leskovec, Faloutsos, "Sampling from large graphs" (KDD 2006), section 3.3.3, with the restart probability of
0.1 of Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.graph import traversal
from distill_at_scale.samplers.graph.traversal import NEVER, Traversal
from distill_at_scale.samplers.map_reduce import Arrays
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.train_rows import TrainRows

RESTART = 0.1
PATIENCE = 30
"""Number of hops without a new node after which a walker moves to a new home node."""
_NODES_A_WALKER = 50
_MOST_WALKERS = 1 << 17
_MOST_PASSES = 20_000
_AT_USER, _AT_ITEM, _WAITS = 0, 1, 2


class RandomWalk(Traversal):
    """Many simultaneous walkers, each with its own home node.

    At every hop a walker returns to its home with probability 0.1, otherwise it moves to a random neighbour. Walkers
    that leave the same item in the same hop move to different users, if there are enough. A walker without a new node
    for 30 hops gets a new home among the unreached nodes. The traversal ends when the rows between reached nodes
    suffice for the largest budget.
    """

    listed: ClassVar[frozenset[str]] = frozenset(
        {"walker", "item", "new", "race_item", "race_draw", "race_user", "start_draw", "start_user"}
    )

    def _first(self, n_nodes: int) -> Arrays:
        n = min(-(-n_nodes // _NODES_A_WALKER), _MOST_WALKERS)
        nowhere = np.zeros(n, dtype=np.uint64)
        return {
            "kind": np.full(n, _WAITS),
            "user": nowhere,
            "item": np.full(n, -1),
            "new": np.zeros(n, dtype=bool),
            "idle": np.zeros(n, dtype=np.int64),
            "home_user": nowhere,
            "home_item": np.full(n, -1),
        }

    def _hop(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        task = self._task
        hop, time = int(shared["hop"][0]), own["time"].copy()
        walkers = np.flatnonzero(shared["kind"] == _AT_USER)
        local, user = traversal.locate(rows, shared["user"][walkers])
        walkers = walkers[local]
        new = time[user] == NEVER
        time[user] = np.minimum(time[user], hop)
        step = hashing.combine(hashing.stream("random_walk/moves", task.seed, hop), walkers.astype(np.uint64))
        choice = (step % np.maximum(rows.counts[user], 1).astype(np.uint64)).astype(np.int64)
        return {"time": time}, {
            "walker": walkers,
            "item": rows.items[rows.offsets[user] + choice].astype(np.int64),
            "new": new,
            "rows": traversal.rows_between(rows, time, shared["time"]),
            **traversal.race(rows, task.seed, hop, _wanted(shared), None),
            **traversal.propose_starts(rows, task.seed, time, int((shared["kind"] == _WAITS).sum())),
        }

    def _after_hop(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        task, hop = self._task, int(shared["hop"][0])
        kind, user, item, new = (shared[name].copy() for name in ("kind", "user", "item", "new"))
        waits = np.flatnonzero(kind == _WAITS)
        starts = traversal.choose_starts(outputs, task.seed, shared, len(waits))
        stuck = len(waits) == len(kind) and len(starts[0]) == 0
        if outputs["rows"][0] >= task.target or stuck or hop >= _MOST_PASSES:
            return shared, 1.0

        # Walkers move from users to items by their own choice, and from items to users by race.
        came = outputs["walker"]
        new[came] = outputs["new"]
        at_item = np.flatnonzero(kind == _AT_ITEM)
        at_item = at_item[np.argsort(item[at_item], kind="stable")]
        goal_user, goal_item = user.copy(), np.full(len(kind), -1)
        goal_item[came] = outputs["item"]
        goal_user[at_item] = _hand_out(item[at_item], *traversal.winners(outputs, _wanted(shared)))
        idle = np.where(new, 0, shared["idle"] + 1)

        begin = hashing.stream("random_walk/restarts", task.seed, hop)
        turn = hashing.uniform_open(hashing.combine(begin, np.arange(len(kind), dtype=np.uint64))) < RESTART
        home_user, home_item = shared["home_user"].copy(), shared["home_item"].copy()
        user, item = np.where(turn, home_user, goal_user), np.where(turn, home_item, goal_item)
        kind = np.where(kind == _WAITS, _WAITS, np.where(item < 0, _AT_USER, _AT_ITEM))
        kind[idle >= PATIENCE] = _WAITS
        lucky = waits[: len(starts[0])]
        user[lucky], item[lucky] = starts
        home_user[lucky], home_item[lucky] = starts
        kind[lucky] = np.where(starts[1] < 0, _AT_USER, _AT_ITEM)
        idle[lucky] = 0

        time = shared["time"].copy()
        at_item = np.flatnonzero(kind == _AT_ITEM)
        new = np.zeros(len(kind), dtype=bool)
        new[at_item] = time[item[at_item]] == NEVER
        time[item[at_item]] = np.minimum(time[item[at_item]], hop + 1)
        return {
            "hop": np.array([hop + 1]),
            "degree": shared["degree"],
            "time": time,
            "kind": kind,
            "user": user,
            "item": item,
            "new": new,
            "idle": idle,
            "home_user": home_user,
            "home_item": home_item,
        }, outputs["rows"][0] / task.target


def _wanted(shared: Arrays) -> np.ndarray:
    """Returns the number of walkers at each item, int64 [n_items]."""
    at = shared["item"][shared["kind"] == _AT_ITEM]
    return np.bincount(at, minlength=shared["time"].size)


def _hand_out(at: np.ndarray, items: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Assigns the races' winners to walkers, given the walkers' items (ascending); cycles if there are too few."""
    first = np.searchsorted(items, at, side="left")
    available = np.searchsorted(items, at, side="right") - first
    turn = np.arange(len(at)) - np.searchsorted(at, at, side="left")
    return users[first + turn % np.maximum(available, 1)]


RANDOM_WALK = Sampler("random_walk", traversal.by_time, map_reduce=RandomWalk)
