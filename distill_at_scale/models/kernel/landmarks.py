"""Landmarks: a few users whose kernel columns represent all; the draw does not depend on the number of workers.

A user's key is -log(u) / weight with u a hash of (seed, user); the smallest keys win. With equal weights that is a
uniform draw without replacement, else one in proportion to the weights (Efraimidis and Spirakis, "Weighted random
sampling with a reservoir", IPL 2006). Of users with the same items only one is drawn, since a second adds nothing.
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
"""Function from users' rows to a positive weight for each user, float64 [b]."""

_PILOT_USERS = 500
_NONE = np.iinfo(np.int64).max
# Number of users whose kernel with the landmarks is computed at a time.
BLOCK = 2048


def draw_landmarks(
    source: Source,
    n: int,
    seed: int,
    communicator: Communicator,
    weights: Weights | None = None,
) -> Interactions:
    """Draws ``n`` users with distinct sets of items, or fewer if fewer exist, and returns their rows.

    Args:
        source: This worker's share of the users.
        n: Number of landmarks.
        seed: Seed of the draw.
        communicator: Communicator of the workers, who must all call this; all get the same users.
        weights: Weights of the users; None: equal weights.

    Returns:
        The users' rows, users ascending, items only.
    """
    return _draw(source, n, hashing.stream("kernel/landmarks", seed), communicator, weights)


def _draw(
    source: Source, n: int, begin: hashing.Stream, communicator: Communicator, weights: Weights | None
) -> Interactions:
    candidates = [_candidates(source.train(k), n, begin, weights) for k in range(source.n_pieces)]
    own = _best(np.concatenate([np.empty((0, 3), np.int64), *candidates]), n)
    # Every worker fills its own entry of a table of zeros; the sum over workers is an exchange.
    tables = torch.zeros((communicator.world_size, n, 3), dtype=torch.int64)
    tables[communicator.rank] = _NONE
    tables[communicator.rank, : len(own)] = torch.from_numpy(own)
    communicator.all_reduce(tables)
    every = tables.reshape(-1, 3).numpy()
    chosen = np.sort(_best(every[every[:, 1] < _NONE], n)[:, 1])
    return _gather(source, chosen, communicator)


def leverage_weights(source: Source, lam: float, n: int, seed: int, communicator: Communicator) -> Weights:
    """Returns weights in proportion to approximate ridge leverage scores l_i(λ') = (K (K + λ' I)^-1)_ii.

    From a uniform pilot P of p users out of U: l̃_i = (K_ii - k_iP (K_PP + λ' p/U I)^-1 k_Pi) / λ'.
    Source: Rudi, Calandriello, Carratino, Rosasco, "On fast leverage score sampling and optimal learning"
    (NeurIPS 2018), equation 3 with a uniform A.

    Args:
        source, seed, communicator: As in :func:`draw_landmarks`.
        lam: λ, relative to the mean diagonal.
        n: Number of landmarks to be drawn; the pilot has as many, but at most 500.
    """
    diagonal, n_users = mean_diagonal(source, communicator)
    shift = lam * diagonal
    pilot = TrainUsers(_draw(source, min(n, _PILOT_USERS), hashing.stream("kernel/pilot", seed), communicator, None))
    matrix = pilot.kernel(torch.float64, torch.device("cpu")).numpy()
    matrix[np.diag_indices_from(matrix)] += shift * len(pilot) / n_users
    factor = np.tril(cholesky_in_place(matrix, "infinite_ae"))

    def weights(rows: Interactions) -> np.ndarray:
        scores = np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            histories = rows.slice(start, start + BLOCK).to_csr()
            kernel = pilot.kernel_with(histories, torch.float64, torch.device("cpu")).numpy()
            explained = scipy.linalg.solve_triangular(factor, kernel.T, lower=True, overwrite_b=True)
            norms = np.diff(histories.indptr).astype(np.float64)
            left = ntk_diagonal(norms, rows.n_items) - np.einsum("pb,pb->b", explained, explained)
            scores[start : start + BLOCK] = left / shift
        # Rounding may give a negative score for a user of the pilot.
        return np.clip(scores, 1e-12, None)

    return weights


def mean_diagonal(source: Source, communicator: Communicator) -> tuple[float, int]:
    """Returns the mean of K(u, u) over the train users of all workers, and the number of these users."""
    sums = torch.zeros(2, dtype=torch.float64)
    for piece in range(source.n_pieces):
        matrix = source.train(piece).to_csr()
        diagonal = ntk_diagonal(np.diff(matrix.indptr).astype(np.float64), source.n_items)
        sums += torch.tensor([diagonal.sum(), len(diagonal)], dtype=torch.float64)
    communicator.all_reduce(sums)
    return float(sums[0] / sums[1]), int(sums[1])


def _candidates(rows: Interactions, n: int, begin: hashing.Stream, weights: Weights | None) -> np.ndarray:
    """Returns (key, user, hash of the items) of the best ``n`` of some users."""
    rows = rows.take(np.flatnonzero(rows.counts > 0), timestamps=False)
    keys = -np.log(hashing.uniform_open(hashing.combine(begin, rows.users.astype(np.uint64))))
    if weights is not None:
        keys /= weights(rows)
    # The bits of positive floats sort like the floats, and integers are exchanged exactly.
    return _best(np.stack((keys.view(np.int64), rows.users, _row_hashes(rows)), axis=1), n)


def _row_hashes(rows: Interactions) -> np.ndarray:
    """Returns hashes, int64 [b], equal for equal sets of items; every user has rows."""
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(rows), dtype=np.int64), rows.counts)
    pairs = np.unique(owners * rows.n_items + rows.items)
    sums = np.zeros(len(rows), dtype=np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(sums, pairs // rows.n_items, hashing.mix(pairs % rows.n_items))
    return (hashing.mix(sums) >> np.uint64(1)).astype(np.int64)


def _best(table: np.ndarray, n: int) -> np.ndarray:
    """Returns the ``n`` rows (key, user, hash) with the smallest keys, one per hash."""
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    _, first = np.unique(table[:, 2], return_index=True)
    return table[np.sort(first)[:n]]


def _gather(source: Source, users: np.ndarray, communicator: Communicator) -> Interactions:
    """Collects the train rows of some users from all workers."""
    counts = torch.zeros(len(users), dtype=torch.int64)
    own: list[tuple[np.ndarray, Interactions]] = []
    for piece in range(source.n_pieces):
        rows = source.train(piece)
        local = np.flatnonzero(np.isin(users, rows.users))
        own.append((local, rows.take(np.searchsorted(rows.users, users[local]), timestamps=False)))
        counts[local] = torch.from_numpy(own[-1][1].counts)
    communicator.all_reduce(counts)
    offsets = ragged.offsets(counts.numpy())
    items = torch.zeros(int(offsets[-1]), dtype=torch.int64)
    for local, rows in own:
        positions = ragged.indices(offsets[local], rows.counts)
        items[torch.from_numpy(positions)] = torch.from_numpy(rows.items.astype(np.int64))
    communicator.all_reduce(items)
    return Interactions(users, offsets, items.numpy().astype(np.int32), source.n_items)
