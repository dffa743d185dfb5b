"""Landmarks: the few users whose kernel columns stand for all, drawn the same whatever the number of workers.

A user's key is -log(u) / weight with u a hash of (seed, user); the smallest keys win. With equal weights that is a
uniform draw without replacement, else one in proportion to the weights (Efraimidis and Spirakis, "Weighted random
sampling with a reservoir", IPL 2006). Users with the same items count once, as a second one adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.kernel.ntk import TrainUsers, ntk_diagonal
from distill_at_scale.models.linalg import cholesky_in_place
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source

Weights = Callable[[Interactions], np.ndarray]
"""From users' rows to a positive weight each, float64 [b]"""

_PILOT_USERS = 500
_NONE = np.iinfo(np.int64).max
# Users whose kernel with the landmarks is made at once.
BLOCK = 2048


def draw_landmarks(
    source: Source,
    n: int,
    seed: int,
    communicator: Communicator,
    weights: Weights | None = None,
) -> Interactions:
    """The rows of ``n`` users, no two with the same items; of fewer where there are no more that differ.

    Args:
        source: this worker's share of the users.
        n: how many.
        seed: of the draw.
        communicator: the other workers, who must call this too; all get the same users.
        weights: None: all alike.

    Returns:
        users ascending, items only.
    """
    return _draw(source, n, hashing.stream("kernel/landmarks", seed), communicator, weights)


def _draw(
    source: Source, n: int, begin: hashing.Stream, communicator: Communicator, weights: Weights | None
) -> Interactions:
    found = [_candidates(source.train(k), n, begin, weights) for k in range(source.n_pieces)]
    own = _best(np.concatenate([np.empty((0, 3), np.int64), *found]), n)
    # Every worker writes into its own place of a table of zeros; adding the tables up is an exchange.
    tables = torch.zeros((communicator.world_size, n, 3), dtype=torch.int64)
    tables[communicator.rank] = _NONE
    tables[communicator.rank, : len(own)] = torch.from_numpy(own)
    communicator.all_reduce(tables)
    every = tables.reshape(-1, 3).numpy()
    chosen = np.sort(_best(every[every[:, 1] < _NONE], n)[:, 1])
    return _gather(source, chosen, communicator)


def leverage_weights(source: Source, lam: float, n: int, seed: int, communicator: Communicator) -> Weights:
    """Weights in proportion to approximate ridge leverage scores l_i(λ') = (K (K + λ' I)^-1)_ii.

    From a uniform pilot P of p users out of U: l̃_i = (K_ii - k_iP (K_PP + λ' p/U I)^-1 k_Pi) / λ'.
    Source: Rudi, Calandriello, Carratino, Rosasco, "On fast leverage score sampling and optimal learning"
    (NeurIPS 2018), equation 3 with a uniform A.

    Args:
        source, seed, communicator: as in :func:`draw_landmarks`.
        lam: λ, relative to the mean diagonal.
        n: landmarks that will be drawn; the pilot has as many, but 500 at most.
    """
    diagonal, n_users = mean_diagonal(source, communicator)
    shift = lam * diagonal
    pilot = TrainUsers(_draw(source, min(n, _PILOT_USERS), hashing.stream("kernel/pilot", seed), communicator, None))
    matrix = pilot.kernel(torch.float64, torch.device("cpu")).numpy()
    matrix[np.diag_indices_from(matrix)] += shift * len(pilot) / n_users
    factor = np.tril(cholesky_in_place(matrix, "infinite_ae"))

    def weights(rows: Interactions) -> np.ndarray:
        found = np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            histories = rows.slice(start, start + BLOCK).to_csr()
            kernel = pilot.kernel_with(histories, torch.float64, torch.device("cpu")).numpy()
            explained = scipy.linalg.solve_triangular(factor, kernel.T, lower=True, overwrite_b=True)
            norms = np.diff(histories.indptr).astype(np.float64)
            left = ntk_diagonal(norms, rows.n_items) - np.einsum("pb,pb->b", explained, explained)
            found[start : start + BLOCK] = left / shift
        # Rounding may leave less than nothing for a user of the pilot.
        return np.clip(found, 1e-12, None)

    return weights


def mean_diagonal(source: Source, communicator: Communicator) -> tuple[float, int]:
    """Mean of K(u, u) over the train users of all workers, and how many users these are."""
    sums = torch.zeros(2, dtype=torch.float64)
    for piece in range(source.n_pieces):
        matrix = source.train(piece).to_csr()
        diagonal = ntk_diagonal(np.diff(matrix.indptr).astype(np.float64), source.n_items)
        sums += torch.tensor([diagonal.sum(), len(diagonal)], dtype=torch.float64)
    communicator.all_reduce(sums)
    return float(sums[0] / sums[1]), int(sums[1])


def _candidates(rows: Interactions, n: int, begin: hashing.Stream, weights: Weights | None) -> np.ndarray:
    """(key, user, hash of the items) of the best ``n`` of some users."""
    rows = rows.take(np.flatnonzero(rows.counts > 0), timestamps=False)
    keys = -np.log(hashing.uniform_open(hashing.combine(begin, rows.users.astype(np.uint64))))
    if weights is not None:
        keys /= weights(rows)
    # The bits of positive numbers are in the numbers' order, and integers survive an exchange untouched.
    return _best(np.stack((keys.view(np.int64), rows.users, _row_hashes(rows)), axis=1), n)


def _row_hashes(rows: Interactions) -> np.ndarray:
    """int64 [b]: equal for equal sets of items; every user has rows."""
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(rows), dtype=np.int64), rows.counts)
    pairs = np.unique(owners * rows.n_items + rows.items)
    sums = np.zeros(len(rows), dtype=np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(sums, pairs // rows.n_items, hashing.mix(pairs % rows.n_items))
    return (hashing.mix(sums) >> np.uint64(1)).astype(np.int64)


def _best(table: np.ndarray, n: int) -> np.ndarray:
    """The ``n`` rows (key, user, hash) with the smallest keys, one for each hash."""
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    _, first = np.unique(table[:, 2], return_index=True)
    return table[np.sort(first)[:n]]


def _gather(source: Source, users: np.ndarray, communicator: Communicator) -> Interactions:
    """The train rows of some users, wherever they lie."""
    counts = torch.zeros(len(users), dtype=torch.int64)
    own: list[tuple[np.ndarray, Interactions]] = []
    for piece in range(source.n_pieces):
        rows = source.train(piece)
        here = np.flatnonzero(np.isin(users, rows.users))
        own.append((here, rows.take(np.searchsorted(rows.users, users[here]), timestamps=False)))
        counts[here] = torch.from_numpy(own[-1][1].counts)
    communicator.all_reduce(counts)
    offsets = ragged.offsets(counts.numpy())
    items = torch.zeros(int(offsets[-1]), dtype=torch.int64)
    for here, rows in own:
        places = ragged.indices(offsets[here], rows.counts)
        items[torch.from_numpy(places)] = torch.from_numpy(rows.items.astype(np.int64))
    communicator.all_reduce(items)
    return Interactions(users, offsets, items.numpy().astype(np.int32), source.n_items)
