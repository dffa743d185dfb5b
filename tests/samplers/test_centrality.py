"""PageRank in passes over shards, beside networkx, and the nodes and edges that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from samplers_kit import Log, Row, cut, draw_of, kept, make_log, run_map_reduce, user_hash

from distill_at_scale.samplers.graph.centrality import MASS, PageRank, centrality, user_ranks
from distill_at_scale.samplers.map_reduce import Task

SEED = 3


def slow_ranks(log: Log) -> dict[tuple[str, int], float]:
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph()
    graph.add_edges_from((("user", u), ("item", item)) for u, rows in log.rows.items() for item, _ in rows)
    return dict(networkx.pagerank(graph, alpha=0.85, tol=1e-14, max_iter=10_000))


# Small means give several components, with their slower convergence.
LOGS = [make_log(0), make_log(1, n_users=40, n_items=200, mean=1.0), make_log(2, n_users=300, n_items=30)]


@pytest.mark.parametrize("log", LOGS, ids=["dense", "components", "many users"])
@pytest.mark.parametrize("n_shards", [1, 4])
def test_ranks_are_those_of_networkx(log: Log, n_shards: int) -> None:
    shards, ids = cut(log, n_shards)
    _, shared = run_map_reduce(PageRank(Task(log.n_items, log.n_rows, 1, SEED)), shards)
    expected = slow_ranks(log)
    for item, rank in enumerate(shared["rank"]):
        assert rank / MASS == pytest.approx(expected.get(("item", item), 0.0), abs=1e-9)
    for rows, users in zip(shards, ids):
        for user, rank in zip(users, user_ranks(rows, shared)):
            assert rank / MASS == pytest.approx(expected.get(("user", user), 0.0), abs=1e-9)


def slow_subset(log: Log, target: int) -> set[Row]:
    """Drops the lowest-ranked node again and again, until that would bring the rows further from the target."""
    ranks = slow_ranks(log)

    def draw(node: tuple[str, int]) -> int:
        kind, name = node
        if kind == "user":
            return draw_of("graph/ties of users", SEED, user_hash(name))
        return draw_of("graph/ties of items", SEED, name)

    def edges(nodes: set[tuple[str, int]]) -> set[Row]:
        return {
            (u, k)
            for u, rows in log.rows.items()
            for k, (item, _) in enumerate(rows)
            if ("user", u) in nodes and ("item", item) in nodes
        }

    # Symmetric nodes have one rank, but for its last bits.
    order = sorted(ranks, key=lambda node: (-round(ranks[node], 12), draw(node)))
    best: set[Row] = set()
    for n in range(1, len(order) + 1):
        found = edges(set(order[:n]))
        if abs(len(found) - target) < abs(len(best) - target):
            best = found
    return best


@pytest.mark.parametrize("log", [LOGS[0], LOGS[2]], ids=["dense", "many users"])
def test_subset_is_the_twins_for_any_shards_and_budgets_nest(log: Log) -> None:
    found = []
    targets = [int(share * log.n_rows) for share in (0.8, 0.4, 0.1)]
    for n_shards in (1, 5):
        shards, ids = cut(log, n_shards)
        owns, shared = run_map_reduce(PageRank(Task(log.n_items, log.n_rows, targets[0], SEED)), shards)
        scores = [centrality(rows, SEED, own, shared) for rows, own in zip(shards, owns)]
        found.append([kept(scores, shards, ids, target) for target in targets])
    assert found[0] == found[1]
    assert found[0][2] < found[0][1] < found[0][0]
    for target, subset in zip(targets, found[0]):
        assert subset == slow_subset(log, target)


def test_what_is_shared_is_the_same_to_the_bit_for_any_shards() -> None:
    ranks = []
    for n_shards in (1, 3, 7):
        shards, _ = cut(LOGS[0], n_shards)
        ranks.append(run_map_reduce(PageRank(Task(LOGS[0].n_items, LOGS[0].n_rows, 1, SEED)), shards)[1]["rank"])
    assert np.array_equal(ranks[0], ranks[1])
    assert np.array_equal(ranks[0], ranks[2])
