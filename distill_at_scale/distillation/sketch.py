"""Synthetic rows in closed form: the best low-rank stand-in for all real rows, turned to look like their clusters.

Needs the real rows only through sparse products, whose results the workers add up.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from distill_at_scale.data import hashing
from distill_at_scale.distillation.users import RealUsers

Init = Literal["random", "kmeans", "sketch"]

_BLOCK_USERS = 4096
# Extra directions and passes of the randomised SVD; the spectra of logs fall slowly.
_OVERSAMPLE, _PASSES = 16, 4
# Coordinates in which users are clustered, and passes over them.
_CLUSTER_RANK, _LLOYD_PASSES = 64, 10
# Of :func:`sketch` and of its rows: on ml-1m, three seeds, validation ndcg@10 .9 ± .2 percent of itself (standard
# error) above that of 1 and 1; either alone brings half of it, 1.2 no more.
_EMPHASIS, _SCALE = 1.1, 0.6


def initial_rows(init: Init, n: int, users: RealUsers, seed: int) -> torch.Tensor:
    """Rows to start from, float32 [n, n_items], the same on every worker.

    Raises:
        DasError: when fewer than ``n`` users have rows.
    """
    start = users.drawn(n)
    if init == "random":
        return start
    rank = n if init == "sketch" else min(n, _CLUSTER_RANK)
    sigma, v = item_factors(users, rank, seed)
    sums, counts = clusters(users, start, v[:, :_CLUSTER_RANK], by_direction=init == "sketch")
    if init == "sketch":
        # Large clusters weigh most: on ml-1m, validation ndcg@10 23.7 by sums of clusters by direction, 23.5 by sums
        # of others, 22.8 by means times √counts, 22.3 by means, 22.8 by drawn users.
        return sketch(users, sigma, v, sums, _EMPHASIS) * _SCALE
    # With these weights SᵀS is to n users what XᵀX is to all.
    return sums * (n / (users.n_filled * counts)).sqrt()


def sketch(
    users: RealUsers, sigma: torch.Tensor, v: torch.Tensor, towards: torch.Tensor, emphasis: float = 1.0
) -> torch.Tensor:
    """S = Q Σ Vᵀ √(μ/N): SᵀS is the best rank-μ approximation of XᵀX, scaled to μ users.

    Any orthogonal Q serves a linear model alike; ∞-AE needs rows that look like users, so Q is the one that brings
    them nearest to ``towards`` (Schönemann's orthogonal Procrustes problem, Psychometrika 1966).

    Args:
        users: the real ones.
        sigma, v: [r], [n_items, r], of :func:`item_factors`, r ≤ μ.
        towards: float32 [μ, n_items].
        emphasis: Σ is raised to this power, its sum of squares kept: above 1, less of what few users share remains.
    """
    total = sigma.square().sum()
    sigma = sigma**emphasis
    sigma = sigma * (total / sigma.square().sum()).sqrt()
    left, _, right = torch.linalg.svd((towards @ v) * sigma, full_matrices=False)
    return (left @ right * sigma) @ v.T * (len(towards) / users.n_filled) ** 0.5


def item_factors(users: RealUsers, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest singular values Σ [r] of all users' rows and their item vectors V [n_items, r], float32.

    r is ``rank``, or less where users or items are fewer. Randomised subspace iteration: Halko, Martinsson, Tropp
    (SIAM Review 2011), algorithm 4.4, on the items' side, where what the workers add up is [n_items, r].
    """
    rank = min(rank, users.n_items, users.n_filled)
    width = min(rank + _OVERSAMPLE, users.n_items)
    generator = torch.Generator().manual_seed(hashing.stream("sketch/basis", seed))
    basis = torch.randn(users.n_items, width, generator=generator).to(users.device)
    for _ in range(_PASSES):
        basis = torch.linalg.qr(_normal_product(users, basis)).Q
    small = basis.T.double() @ _normal_product(users, basis).double()
    squares, turn = torch.linalg.eigh((small + small.T) / 2)
    best = slice(width - rank, width)  # ascending
    v = (basis.double() @ turn[:, best]).flip(1)
    return squares[best].flip(0).clamp_min(0.0).sqrt().float(), v.float()


def clusters(
    users: RealUsers, start: torch.Tensor, v: torch.Tensor, *, by_direction: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the users' rows in each cluster of k-means, float32 [μ, n_items], and how many they are, [μ, 1].

    Lloyd's passes run in the coordinates X V. A cluster that loses all its users stays what it was; one that ends
    without any has its start, and counts one.

    Args:
        users: the real ones.
        start: the first centroids [μ, n_items].
        v: [n_items, r].
        by_direction: whether coordinates have length 1, so that users with few items cluster by their taste.
    """
    n = len(start)
    coordinates = torch.from_numpy(users.matrix @ v.cpu().numpy())
    centroids = (start @ v).cpu()
    if by_direction:
        coordinates, centroids = F.normalize(coordinates, dim=1), F.normalize(centroids, dim=1)
    for _ in range(_LLOYD_PASSES):
        nearest = _nearest(coordinates, centroids)
        sums = torch.zeros(n, v.shape[1] + 1, device=users.device)
        sums[:, :-1].index_add_(0, nearest.to(users.device), coordinates.to(users.device))
        sums[:, -1] = torch.bincount(nearest, minlength=n)
        users.communicator.all_reduce(sums)
        counts = sums[:, -1:].cpu()
        centroids = torch.where(counts > 0, sums[:, :-1].cpu() / counts.clamp_min(1.0), centroids)
    owners = _nearest(coordinates, centroids).numpy()
    members = sp.csr_array((np.ones(len(owners), np.float32), (owners, np.arange(len(owners)))), (n, len(owners)))
    sums = torch.zeros(n, users.n_items + 1, device=users.device)
    sums[:, :-1] = torch.from_numpy((members @ users.matrix).toarray())
    sums[:, -1] = torch.from_numpy(np.bincount(owners, minlength=n))
    users.communicator.all_reduce(sums)
    counts = sums[:, -1:]
    return torch.where(counts > 0, sums[:, :-1], start), counts.clamp_min(1.0)


def _normal_product(users: RealUsers, basis: torch.Tensor) -> torch.Tensor:
    """XᵀX basis, [n_items, r], summed over the workers."""
    total = np.zeros(basis.shape, dtype=np.float32)
    right = basis.cpu().numpy()
    for start in range(0, users.matrix.shape[0], _BLOCK_USERS):
        block = users.matrix[start : start + _BLOCK_USERS]
        total += block.T @ (block @ right)
    product = torch.from_numpy(total).to(basis.device)
    users.communicator.all_reduce(product)
    return product


def _nearest(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """int64 [u]: the nearest centroid of each point."""
    half = centroids.square().sum(1) / 2
    blocks = [(half - block @ centroids.T).argmin(1) for block in points.split(_BLOCK_USERS)]
    return torch.cat(blocks) if blocks else torch.empty(0, dtype=torch.int64)
