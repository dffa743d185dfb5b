"""Features of the user–item graph: components, clustering, reach, spectrum.

All functions take a binary matrix [users, items] in which every user and every item has an entry; the nodes are users
and items.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph
from scipy.sparse.linalg import svds

from distill_at_scale.data import hashing

_BLOCK_USERS = 512
# Largest number of entries for which a matrix is made dense.
_DENSE = 1 << 19


def component_sizes(matrix: sp.csr_array) -> np.ndarray:
    """Returns int64 [components]: number of nodes of each connected component, the largest first."""
    n, labels = csgraph.connected_components(_adjacency(matrix), directed=False)
    return np.sort(np.bincount(labels, minlength=n))[::-1]


def clustering(matrix: sp.csr_array) -> float:
    """Returns the share of three-edge paths that are part of a four-cycle; 0 if there are no such paths.

    Source: Robins, Alexander, "Small worlds among interlocking directors" (2004): 4 C4 / L3. Computed from the users ×
    users matrix, block by block, in time proportional to the sum of the items' squared degrees.
    """
    users, items = np.diff(matrix.indptr), np.bincount(matrix.indices, minlength=matrix.shape[1])
    paths = int(((np.repeat(users, users) - 1) * (items[matrix.indices] - 1)).sum())
    if paths == 0:
        return 0.0
    exact = sp.csr_array((np.ones(matrix.nnz, dtype=np.int64), matrix.indices, matrix.indptr), shape=matrix.shape)
    twice = 0
    for start in range(0, matrix.shape[0], _BLOCK_USERS):
        common = (exact[start : start + _BLOCK_USERS] @ exact.T).data
        twice += int((common * (common - 1) // 2).sum())
    # The diagonal (a user with itself) has no cycles, and every pair of users was counted twice.
    cycles = (twice - int((users * (users - 1) // 2).sum())) // 2
    return 4 * cycles / paths


def reach(matrix: sp.csr_array, sources: np.ndarray, hops: int) -> np.ndarray:
    """Returns float64 [hops]: share of all nodes within 1, 2, … hops of a user, itself included, averaged over the
    users of ``sources`` (row numbers). The sampled hop plot of Leskovec, Kleinberg, Faloutsos (2005)."""
    n_users, n_items = matrix.shape
    back = sp.csr_array(matrix.T)
    seen_users = np.zeros((n_users, len(sources)), dtype=bool)
    seen_users[sources, np.arange(len(sources))] = True
    seen_items = np.zeros((n_items, len(sources)), dtype=bool)
    found = np.empty(hops)
    for hop in range(hops):
        # The graph is bipartite: an odd hop can reach only items, an even hop only users.
        if hop % 2 == 0:
            seen_items |= (back @ seen_users.astype(np.float32)) > 0
        else:
            seen_users |= (matrix @ seen_items.astype(np.float32)) > 0
        found[hop] = (seen_users.sum() + seen_items.sum()) / (len(sources) * (n_users + n_items))
    return found


def singular_values(matrix: sp.csr_array, k: int, seed: int = 0, most: float = np.inf) -> np.ndarray:
    """Returns float64 [k]: the largest singular values, descending, padded with 0.

    These and their negatives are the eigenvalues of the graph's adjacency matrix. The components are decomposed one by
    one and their values merged: on the whole matrix, Lanczos' method may miss a value that several components have,
    such as the 1 of every component of a normalised matrix.

    Args:
        seed: Seed of the initial vector of Lanczos' method.
        most: Known upper bound of the singular values; components that cannot contribute are skipped.
    """
    _, labels = csgraph.connected_components(_adjacency(matrix), directed=False)
    labels = labels[: matrix.shape[0]]
    # A component's singular values are at most its Frobenius norm.
    bound = np.minimum(np.sqrt(np.bincount(np.repeat(labels, np.diff(matrix.indptr)), matrix.data**2)), most)
    users = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    found = np.zeros(k)
    for component in np.argsort(-bound, kind="stable"):
        if bound[component] <= found[-1] * (1 + 1e-9):
            break
        part = matrix[users[ends[component - 1] if component else 0 : ends[component]]]
        part = part[:, np.unique(part.indices)]
        found = np.sort(np.concatenate((found, _connected_singular_values(part, k, seed))))[::-1][:k]
    return found


def _connected_singular_values(matrix: sp.csr_array, k: int, seed: int) -> np.ndarray:
    """Returns float64 [up to k]: the largest singular values of a matrix with one component."""
    side = min(matrix.shape)
    if matrix.shape[0] * matrix.shape[1] <= _DENSE or side <= k + 1:
        return np.linalg.svd(matrix.toarray(), compute_uv=False)[:k]
    start = np.random.default_rng(hashing.stream("genie/singular values", seed)).standard_normal(side)
    return svds(matrix, k=k, v0=start, return_singular_vectors=False)


def normalised(matrix: sp.csr_array) -> sp.csr_array:
    """Returns D_u^-1/2 X D_i^-1/2. Its singular values lie in [0, 1]: 1 once for each component, and close to 1 for
    each nearly separate cluster."""
    users = 1 / np.sqrt(np.diff(matrix.indptr))
    items = 1 / np.sqrt(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    data = np.repeat(users, np.diff(matrix.indptr)) * items[matrix.indices]
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _adjacency(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(sp.block_array([[None, matrix], [matrix.T, None]]))
