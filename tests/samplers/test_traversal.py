"""Random walk and forest fire: exact where they must be, and beside naive twins where they are random."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from samplers_kit import Log, Row, cut, kept, make_log, run_map_reduce

from distill_at_scale.samplers.graph import forest_fire, random_walk
from distill_at_scale.samplers.graph.forest_fire import ForestFire
from distill_at_scale.samplers.graph.random_walk import RandomWalk
from distill_at_scale.samplers.graph.traversal import NEVER, by_time, smallest
from distill_at_scale.samplers.map_reduce import MakeMapReduce, Task

SAMPLERS = {"random_walk": RandomWalk, "forest_fire": ForestFire}
Node = tuple[str, int]


def run(make: MakeMapReduce, log: Log, n_shards: int, targets: list[int], seed: int) -> list[set[Row]]:
    shards, ids = cut(log, n_shards)
    owns, shared = run_map_reduce(make(Task(log.n_items, log.n_rows, targets[0], seed)), shards)
    scores = [by_time(rows, seed, own, shared) for rows, own in zip(shards, owns)]
    return [kept(scores, shards, ids, target) for target in targets]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("log", [make_log(0), make_log(1, n_users=300, n_items=150, mean=3.0)], ids=["small", "sparse"])
def test_subset_does_not_depend_on_shards_and_budgets_nest(name: str, log: Log) -> None:
    targets = [int(share * log.n_rows) for share in (0.7, 0.3, 0.1)]
    found = [run(SAMPLERS[name], log, n_shards, targets, 4) for n_shards in (1, 3, 8)]
    assert found[0] == found[1] == found[2]
    for large, small in zip(found[0], found[0][1:]):
        assert small <= large
    for target, subset in zip(targets, found[0]):
        # A node brings at most its rows with it.
        assert abs(len(subset) - target) <= max(len(rows) for rows in log.rows.values())
    assert run(SAMPLERS[name], log, 2, targets, 5) != found[0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_component_is_reached_in_the_end(name: str) -> None:
    """Many small components exhaust fires and walkers again and again; asked for everything, they find everything."""
    log = Log({100 + k: [(2 * k, 1), (2 * k + 1, 2)] for k in range(60)}, 120)
    (everything,) = run(SAMPLERS[name], log, 3, [log.n_rows], 0)
    assert everything == set(log.names())
    (half,) = run(SAMPLERS[name], log, 3, [log.n_rows // 2], 0)
    assert len(half) == log.n_rows // 2


def test_smallest_takes_so_many_of_each_group() -> None:
    groups, draws = np.array([2, 0, 2, 2, 0, 1]), np.array([9, 5, 1, 4, 3, 7], dtype=np.uint64)
    assert smallest(groups, draws, np.array([1, 0, 2])).tolist() == [4, 2, 3]


@pytest.mark.parametrize("skew", [1.0, 1e-3, 40.0])
def test_smallest_is_that_of_a_sort(skew: float) -> None:
    """Also for draws that are far from uniform, so that none, or all, of a group are below its bound."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 4000) // rng.integers(1, 5, 4000)
    draws = (rng.random(4000) ** skew * 2.0**63).astype(np.uint64)
    wanted = rng.integers(0, 60, 30)
    expected = []
    for group in range(30):
        members = [k for k in range(4000) if groups[k] == group]
        expected += sorted(members, key=lambda k: int(draws[k]))[: wanted[group]]
    found = smallest(groups, draws, wanted)
    assert [(groups[k], draws[k]) for k in found] == [(groups[k], draws[k]) for k in expected]


def neighbours(log: Log) -> dict[Node, list[Node]]:
    graph: dict[Node, list[Node]] = {}
    for user, rows in log.rows.items():
        for item, _ in rows:
            graph.setdefault(("user", user), []).append(("item", item))
            graph.setdefault(("item", item), []).append(("user", user))
    return graph


def naive_walk(graph: dict[Node, list[Node]], rng: random.Random, n_walkers: int, hops: int) -> set[Node]:
    """Walkers one after another, written from the definition."""
    reached: set[Node] = set()
    starts = rng.sample(sorted(graph), n_walkers)
    for start in starts:
        node = start
        reached.add(node)
        for _ in range(hops):
            node = start if rng.random() < 0.1 else rng.choice(graph[node])
            reached.add(node)
    return reached


def naive_fire(graph: dict[Node, list[Node]], rng: random.Random, n_fires: int, hops: int) -> set[Node]:
    """Fires side by side, node by node, written from the definition."""
    front = rng.sample(sorted(graph), n_fires)
    burnt = set(front)
    for _ in range(hops):
        after: list[Node] = []
        for node in front:
            x = 1
            while rng.random() >= 0.4:
                x += 1
            fresh = [other for other in graph[node] if other not in burnt]
            after += rng.sample(fresh, min(x, len(fresh)))
        front = sorted(set(after))
        burnt |= set(front)
    return burnt


def reached_after(make: MakeMapReduce, log: Log, hops: int, seed: int) -> set[Node]:
    """The nodes whose time is within so many hops of the first, which is 1."""
    shards, ids = cut(log, 2)
    owns, shared = run_map_reduce(make(Task(log.n_items, log.n_rows, log.n_rows, seed)), shards)
    found: set[Node] = {("item", int(k)) for k in np.flatnonzero(shared["time"] <= 1 + hops)}
    for own, users in zip(owns, ids):
        found |= {("user", users[int(k)]) for k in np.flatnonzero(own["time"] <= 1 + hops)}
    return found


@pytest.mark.parametrize(
    ("make", "module", "share", "twin", "hops"),
    [
        (RandomWalk, random_walk, "_NODES_A_WALKER", naive_walk, 12),
        (ForestFire, forest_fire, "_NODES_A_FIRE", naive_fire, 2),
    ],
    ids=["random_walk", "forest_fire"],
)
def test_nodes_are_reached_as_often_as_by_the_twin(
    make: MakeMapReduce,
    module: object,
    share: str,
    twin: Callable[..., set[Node]],
    hops: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over many seeds: how many nodes are reached, and which, within a few standard errors."""
    log = make_log(6, n_users=40, n_items=20, mean=4.0, ties=False)
    graph = neighbours(log)
    monkeypatch.setattr(module, share, -(-len(graph) // 2))
    monkeypatch.setattr(module, "_MOST_PASSES", 1 + hops)
    runs = 120
    rng = random.Random(1)
    ours = [reached_after(make, log, hops, seed) for seed in range(runs)]
    twins = [twin(graph, rng, 2, hops) for _ in range(4 * runs)]
    sizes, twin_sizes = np.array([len(s) for s in ours]), np.array([len(s) for s in twins])
    error = np.sqrt(sizes.var() / len(ours) + twin_sizes.var() / len(twins))
    assert abs(sizes.mean() - twin_sizes.mean()) < 4 * error
    worst = 0.0
    for node in graph:
        p, q = np.mean([node in s for s in ours]), np.mean([node in s for s in twins])
        pooled = (p + 4 * q) / 5
        worst = max(worst, abs(p - q) / np.sqrt(max(pooled * (1 - pooled), 1e-3) * (1 / runs + 1 / (4 * runs))))
    # The largest of 60 standard normals exceeds 4.5 once in 2,500 times.
    assert worst < 4.5


def test_what_is_never_reached_comes_last() -> None:
    log = make_log(0)
    shards, _ = cut(log, 2)
    owns, shared = run_map_reduce(RandomWalk(Task(log.n_items, log.n_rows, 5, 1)), shards)
    assert (shared["time"] == NEVER).any()
    for rows, own in zip(shards, owns):
        scores = by_time(rows, 1, own, shared)
        ends = np.maximum(own["time"][rows.owner], shared["time"][rows.items])
        assert (scores.keys.astype(np.int64) == ends).all()
