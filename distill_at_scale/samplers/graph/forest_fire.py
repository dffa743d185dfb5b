"""Forest fire: keeps the nodes of the user–item graph that fires burn, with the rows between them.

Source: Leskovec, Faloutsos, "Sampling from large graphs" (KDD 2006), section 3.3.4, with the Geometric(0.4) of
Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1.
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

SPREAD = 0.4
_NODES_A_FIRE = 200
_MOST_PASSES = 20_000


class ForestFire(Traversal):
    """A burning node sets x ~ Geometric(0.4) (1, 2, …) of its unburnt neighbours on fire.

    There is always one fire per 200 nodes: where fires go out, new ones are lit at unburnt nodes. The traversal ends
        when
    the rows between burnt nodes suffice for the largest budget.
    """

    listed: ClassVar[frozenset[str]] = frozenset(
        {"item", "race_item", "race_draw", "race_user", "start_draw", "start_user"}
    )

    def _first(self, n_nodes: int) -> Arrays:
        return {
            "user": np.zeros(0, dtype=np.uint64),
            "item": np.zeros(0, dtype=np.int64),
            "fires": np.array([-(-n_nodes // _NODES_A_FIRE)]),
        }

    def _hop(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        task = self._task
        hop, time = int(shared["hop"][0]), own["time"].copy()
        _, user = traversal.locate(rows, shared["user"])
        time[user] = hop
        return {"time": time}, {
            "item": self._from_users(rows, user, shared["time"], hop),
            "rows": traversal.rows_between(rows, time, shared["time"]),
            **traversal.race(rows, task.seed, hop, self._wanted(shared), time == NEVER),
            **traversal.propose_starts(rows, task.seed, time, self._missing(shared)),
        }

    def _after_hop(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        task = self._task
        hop = int(shared["hop"][0])
        start_users, start_items = traversal.choose_starts(outputs, task.seed, shared, self._missing(shared))
        _, users = traversal.winners(outputs, self._wanted(shared))
        users = np.union1d(users, start_users[start_items < 0])
        items = np.union1d(outputs["item"], start_items[start_items >= 0])
        is_out = self._missing(shared) > 0 and len(users) + len(items) == 0
        if outputs["rows"][0] >= task.target or is_out or hop >= _MOST_PASSES:
            return shared, 1.0
        time = shared["time"].copy()
        time[items] = hop + 1
        after = {**shared, "hop": np.array([hop + 1]), "time": time, "user": users, "item": items}
        return after, outputs["rows"][0] / task.target

    def _missing(self, shared: Arrays) -> int:
        """Number of fires to be lit."""
        return max(0, int(shared["fires"][0]) - len(shared["user"]) - len(shared["item"]))

    def _wanted(self, shared: Arrays) -> np.ndarray:
        """Returns the number of users that each item sets on fire, int64 [n_items]."""
        wanted = np.zeros(self._task.n_items, dtype=np.int64)
        begin = hashing.stream("forest_fire/spread of items", self._task.seed)
        wanted[shared["item"]] = _geometric(hashing.combine(begin, shared["item"].astype(np.uint64)))
        return wanted

    def _from_users(self, rows: TrainRows, users: np.ndarray, item_time: np.ndarray, hop: int) -> np.ndarray:
        """Returns the distinct items, int64, that burning users of this shard set on fire."""
        wanted = np.zeros(rows.n_users, dtype=np.int64)
        begin = hashing.stream("forest_fire/spread of users", self._task.seed)
        wanted[users] = _geometric(hashing.combine(begin, rows.user_hash[users]))
        where = np.flatnonzero((wanted[rows.owner] > 0) & (item_time[rows.items] == NEVER))
        owner, items = rows.owner[where], rows.items[where].astype(np.int64)
        begin = hashing.stream("forest_fire/items of users", self._task.seed, hop)
        draws = hashing.combine(begin, rows.user_hash[owner], items.view(np.uint64))
        return np.unique(items[traversal.smallest(owner, draws, wanted)])


def _geometric(hashes: np.ndarray) -> np.ndarray:
    """Draws 1, 2, … with P(x) = 0.4 · 0.6^(x − 1), int64, by inversion."""
    return 1 + np.floor(np.log(hashing.uniform_open(hashes)) / np.log1p(-SPREAD)).astype(np.int64)


FOREST_FIRE = Sampler("forest_fire", traversal.by_time, map_reduce=ForestFire)
