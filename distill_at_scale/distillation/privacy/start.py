"""The start of a private run: noised item counts, and rows in the directions of a noised second moment.

No real user's row is a start. Two Gaussian mechanisms read the log once each:

    counts      Σ_u (x_u / |x_u|, 0.3 min(n_u, 256) / 256)     a user's part has norm ≤ √1.09
    moment      Σ_u y_u y_uᵀ, y_u = x_u / |x_u| at the most popular items by the noised counts; norm ≤ 1

All else is computed from what they return. Dwork, Talwar, Thakurta, Zhang, "Analyze Gauss" (STOC 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data import hashing
from distill_at_scale.distillation.privacy.noise import Noise
from distill_at_scale.distillation.sketch import BLOCK_USERS, SCALE
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.synthetic_rows import FactoredRows

MOST_ROWS = 256
"""Train rows of a user up to which they count in the noised number of rows."""
MOST_ITEMS = 1024
"""Items whose second moment is read: the noise grows with the root of their number."""
# Weight of a user's number of rows beside the row of length 1.
_OF_LENGTH = 0.3
# Part of the start's budget, in 1/σ², for the counts.
_OF_COUNTS = 0.1


@dataclass(frozen=True)
class PrivateStart:
    """What is known of the log, with noise.

    Attributes:
        rows: Initial rows in factors, with orthonormal columns of V.
        n_rows: Estimated number of train rows, at most 256 of each user.
        item_counts: int64 [n_items], estimated number of users of each item, ≥ 0.
    """

    rows: FactoredRows
    n_rows: int
    item_counts: np.ndarray


def private_start(
    users: RealUsers, number: int, rank: int, noise_multiplier: float, noise: Noise, seed: int
) -> PrivateStart:
    """Returns a start that satisfies the differential privacy of a Gaussian mechanism, the same on every worker.

    Args:
        users: Real users.
        number: μ, number of rows.
        rank: Number of directions.
        noise_multiplier: σ of one Gaussian mechanism with sensitivity 1 that spends the same.
        noise: Secret random numbers.
        seed: Seed of draws that need no secret.
    """
    shape, length = noised_counts(users, noise_multiplier / math.sqrt(_OF_COUNTS), noise)
    popular = np.sort(np.argsort(-shape, kind="stable")[:MOST_ITEMS])
    deviation = noise_multiplier / math.sqrt(1 - _OF_COUNTS)
    squares, vectors = _denoised(noised_moment(users, popular, deviation, noise), deviation, rank)
    rows = _of_first(_rows(shape, popular, squares / users.n_users, vectors, length, number, seed), users)
    # The counts are weighted by 1/√n_u; scaled to the number of rows they are estimates of counts.
    total = max(1, round(length * users.n_users))
    counts = np.round(shape * (total / max(shape.sum(), 1e-9))).astype(np.int64)
    return PrivateStart(rows, total, counts)


def _of_first(rows: FactoredRows, users: RealUsers) -> FactoredRows:
    """The first worker's rows, on every worker: coordinates mean nothing beside the vectors of another one."""
    z, v = (torch.from_numpy(part).to(users.device) for part in (rows.z, rows.v))
    return FactoredRows(*(users.communicator.of_first(part).cpu().numpy() for part in (z, v)))


def noised_counts(users: RealUsers, noise_multiplier: float, noise: Noise) -> tuple[np.ndarray, float]:
    """Returns Σ_u x_u/|x_u|, float64 [n_items], and the mean of min(n_u, 256), with noise, cut to what is possible."""
    lengths = np.diff(users.matrix.indptr)
    sums = np.zeros(users.n_items + 1)
    weights = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    sums[:-1] = np.bincount(users.matrix.indices, weights, users.n_items)
    sums[-1] = _OF_LENGTH * np.minimum(lengths, MOST_ROWS).sum() / MOST_ROWS
    found = _noised_sum(users, sums, noise_multiplier * math.hypot(1.0, _OF_LENGTH), noise)
    mean = found[-1] / _OF_LENGTH * MOST_ROWS / users.n_users
    return found[:-1].clip(0.0), float(np.clip(mean, 1.0, MOST_ROWS))


def noised_moment(users: RealUsers, items: np.ndarray, noise_multiplier: float, noise: Noise) -> np.ndarray:
    """Returns Σ_u y_u y_uᵀ over the given items, float64 [k, k], with symmetric noise; |y_u| is 1 or 0.

    The diagonal and √2 times what is above it have the norm of y yᵀ, 1, and get noise of the same size.
    """
    size = len(items)
    moment = np.zeros((size, size))
    for first in range(0, users.matrix.shape[0], BLOCK_USERS):
        block = sp.csr_array(users.matrix[first : first + BLOCK_USERS][:, items])
        counts = np.diff(block.indptr)
        block.data = np.repeat(1.0 / np.sqrt(np.maximum(counts, 1)), counts)
        moment += (block.T @ block).toarray()
    upper = np.triu_indices(size, 1)
    flat = np.concatenate((moment.diagonal(), math.sqrt(2.0) * moment[upper]))
    flat = _noised_sum(users, flat, noise_multiplier, noise)
    found = np.diag(flat[:size])
    found[upper] = flat[size:] / math.sqrt(2.0)
    return found + np.triu(found, 1).T


def _noised_sum(users: RealUsers, part: np.ndarray, deviation: float, noise: Noise) -> np.ndarray:
    """Returns the sum of all workers' parts plus noise, which the first worker adds before anything is summed."""
    if users.communicator.rank == 0:
        part = part + deviation * noise.gaussian(part.shape)
    total = torch.from_numpy(part).to(users.device)
    users.communicator.all_reduce(total)
    found: np.ndarray = total.cpu().numpy()
    return found


def _denoised(moment: np.ndarray, deviation: float, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest eigenvalues [r], shrunk, and eigenvectors [k, r] of what rises above the noise; at least two.

    Noise of standard deviation s beside the diagonal alone has eigenvalues up to 2 s √k, the edge. The shrinkage
    √(λ² − edge²) is optimal for the Frobenius norm (Donoho, Gavish, Johnstone, Annals of Statistics 2018, with the
    semicircle of a symmetric matrix).
    """
    squares, vectors = np.linalg.eigh(moment)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    edge = deviation * math.sqrt(2.0 * len(moment))
    kept = slice(0, min(rank, len(moment), max(2, int((squares > edge).sum()))))
    return np.sqrt((squares[kept] ** 2 - edge**2).clip(0.0)), vectors[:, kept]


def _rows(
    shape: np.ndarray,
    popular: np.ndarray,
    squares: np.ndarray,
    vectors: np.ndarray,
    length: float,
    number: int,
    seed: int,
) -> FactoredRows:
    """Draws rows from a Gaussian around the mean profile, with the given second moment."""
    mean = shape / max(float(np.linalg.norm(shape)), 1e-9)
    directions = np.zeros((len(shape), len(squares)))
    directions[popular] = vectors
    # The largest direction is nearly the mean profile at popular items; the mean itself has the other items, too.
    directions[:, 0] = mean
    generator = np.random.default_rng(hashing.stream("privacy/initial rows", seed))
    drawn = generator.standard_normal((number, len(squares))) * np.sqrt(squares)
    drawn[:, 0] = math.sqrt(max(squares[0], 1e-3))
    v, triangle = np.linalg.qr(directions)
    z = SCALE * math.sqrt(length) * (drawn @ triangle.T)
    return FactoredRows(z.astype(np.float32), np.ascontiguousarray(v, dtype=np.float32))
