"""What is measured on the user–item graph, against networkx and dense algebra."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

from distill_at_scale.genie import graph


def make_matrix(seed: int, users: int = 40, items: int = 30, density: float = 0.08) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    dense = (rng.random((users, items)) < density).astype(float)
    dense = dense[dense.sum(1) > 0]
    return sp.csr_array(dense[:, dense.sum(0) > 0])


def as_graph(matrix: sp.csr_array) -> nx.Graph:
    found = nx.Graph()
    found.add_nodes_from((("u", u) for u in range(matrix.shape[0])), bipartite=0)
    found.add_nodes_from((("i", i) for i in range(matrix.shape[1])), bipartite=1)
    found.add_edges_from((("u", int(u)), ("i", int(i))) for u, i in zip(*matrix.nonzero()))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("density", [0.03, 0.15])
def test_components_and_clustering_are_those_of_networkx(seed: int, density: float) -> None:
    matrix = make_matrix(seed, density=density)
    twin = as_graph(matrix)
    sizes = sorted((len(c) for c in nx.connected_components(twin)), reverse=True)
    assert graph.component_sizes(matrix).tolist() == sizes
    expected = nx.bipartite.robins_alexander_clustering(twin)
    assert graph.clustering(matrix) == pytest.approx(expected, rel=1e-12)


def test_blocks_of_users_do_not_change_clustering(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = make_matrix(9, density=0.2)
    whole = graph.clustering(matrix)
    monkeypatch.setattr(graph, "_BLOCK_USERS", 7)
    assert graph.clustering(matrix) == whole > 0


def test_a_graph_without_paths_has_no_clustering() -> None:
    assert graph.clustering(sp.csr_array(np.eye(4))) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_reach_counts_nodes_within_hops(seed: int) -> None:
    matrix = make_matrix(seed, density=0.06)
    twin = as_graph(matrix)
    sources = np.array([0, 3, 7])
    found = graph.reach(matrix, sources, 5)
    for hop in range(5):
        within = [len(nx.single_source_shortest_path_length(twin, ("u", int(s)), cutoff=hop + 1)) for s in sources]
        assert found[hop] == pytest.approx(np.mean(within) / len(twin))


def test_singular_values_are_those_of_the_dense_matrix() -> None:
    matrix = make_matrix(5, 60, 50, 0.2)
    dense = np.linalg.svd(matrix.toarray(), compute_uv=False)
    assert graph.singular_values(matrix, 6) == pytest.approx(dense[:6], rel=1e-9)
    assert graph.singular_values(make_matrix(5, 3, 4, 0.9), 6).tolist()[3:] == [0, 0, 0]


@pytest.mark.parametrize("normalise", [False, True])
def test_large_matrices_have_the_singular_values_of_the_dense_one(
    normalise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that decay slowly, as those of real logs; Lanczos' method instead of a dense decomposition."""
    monkeypatch.setattr(graph, "_DENSE", 0)
    matrix = make_matrix(3, 300, 200, 0.03)
    matrix = graph.normalised(matrix) if normalise else matrix
    dense = np.linalg.svd(matrix.toarray(), compute_uv=False)
    found = graph.singular_values(matrix, 10)
    assert found == pytest.approx(dense[:10], rel=1e-9)
    assert np.array_equal(found, graph.singular_values(matrix, 10))


@pytest.mark.parametrize("components", [2, 12, 70])
def test_a_value_of_several_components_counts_for_each(components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_DENSE", 0)
    blocks = [make_matrix(k, 14, 12, 0.4) for k in range(components)]
    matrix = sp.csr_array(sp.block_diag(blocks))
    for one in (matrix, graph.normalised(matrix)):
        dense = np.linalg.svd(one.toarray(), compute_uv=False)[:8]
        assert graph.singular_values(one, 8) == pytest.approx(dense, rel=1e-9)
    assert graph.singular_values(graph.normalised(matrix), 8, most=1.0) == pytest.approx(dense, rel=1e-9)


def test_the_normalised_matrix_has_a_one_for_each_component() -> None:
    block = np.ones((3, 4))
    matrix = sp.csr_array(sp.block_diag([block, block]))
    found = graph.singular_values(graph.normalised(matrix), 3)
    assert found == pytest.approx([1, 1, 0], abs=1e-9)
