"""SVD-AE: a linear autoencoder in closed form from the truncated SVD of the normalised interactions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from pydantic import Field, PositiveInt

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores
from distill_at_scale.evaluation.metric_names import SelectionMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig, Recommender
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress, Validated, select, validation_metric

# Extra directions of the subspace iteration, which make the requested ones converge.
_OVERSAMPLING = 32
# The eigenvectors of a Gram matrix cost less than the iteration up to about this multiple of the iteration's width.
_EXACT = 2


class SvdAEConfig(ModelConfig):
    """Settings of SVD-AE."""

    rank: int | None = Field(default=None, ge=1)
    """Number of singular vectors; None: selected on validation rows."""
    grid: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 96, 128, 192, 256), min_length=1)
    """Ranks tried on validation rows; the search continues beyond an edge that is best, up to twice the largest."""
    metric: SelectionMetric = PRIMARY
    """Validation metric by which the rank is selected."""
    iterations: int = Field(default=8, ge=1)
    """Number of subspace iterations of the SVD."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the SVD's initial basis."""


class SvdAE(Recommender):
    """Scores are R̃ V_k Σ_k^-1 U_kᵀ R, with R̃ = D_u^-1/2 R D_i^-1/2 ≈ U_k Σ_k V_kᵀ.

    Source: Hong, Choi, Lee, Kumar, Park, "SVD-AE: simple autoencoders for collaborative filtering"
    (IJCAI 2024), section 3. Its reference code fits train and validation rows together before the test; here the fit
    uses only train rows, and a user's validation rows are only input history.

    Practical limits: memory and time grow with (users + items) × rank, so it serves millions of both. The SVD
    is a randomised subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011), deterministic for a given seed.
    """

    name: ClassVar[str] = "svd_ae"
    Config: ClassVar[type[ModelConfig]] = SvdAEConfig
    grid_in_one: ClassVar[bool] = True
    memory_hint: ClassVar[str] = "set smaller ranks (rank or grid), or use a machine with more memory"
    by_blocks: ClassVar[bool] = True
    config: SvdAEConfig

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return 8 * n_items * (config.rank or max(config.grid))

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        # Products with the rows, and orthogonal bases of users and items.
        width = _width(config, n_users, n_items)
        return float(width) * (2 * n_rows + (n_users + n_items) * width)

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        width = _width(config, n_users, n_items)
        return 4 * width * (2 * n_users + 6 * n_items) + 48 * n_rows

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        matrix = train.to_csr()
        self._item_scale = _inverse_sqrt(matrix.sum(axis=0))  # D_i^-1/2
        normalised = _normalise(matrix, self._item_scale)
        if progress:
            progress(0.0, "svd")
        # Users and items without rows add nothing to the rank; including them would cost more than all rows of a small
        # sample.
        normalised = normalised[np.diff(matrix.indptr) > 0]
        rank_bound = min(normalised.shape[0], int((train.item_counts() > 0).sum()))
        width = _width(self.config, rank_bound, rank_bound)
        singular, basis = _right_singular_vectors(
            normalised, width, rank_bound, self.config.iterations, self.config.seed
        )
        largest = int((singular > 1e-4 * singular[0]).sum())
        basis = basis[:, :largest]  # V
        # V Σ^-1 Uᵀ R = V Σ^-2 Vᵀ R̃ᵀ R, as U = R̃ V Σ^-1.
        encoder = basis / singular[:largest] ** 2
        decoder = (matrix[np.diff(matrix.indptr) > 0].T @ (normalised @ basis)).T
        if self.config.rank is not None:
            self._keep(encoder, decoder, min(self.config.rank, largest))
            return
        heldout = self._validation_or_refuse(validation, "rank")

        def try_value(rank: float) -> tuple[Validated, int]:
            self._keep(encoder, decoder, int(rank))
            return validation_metric(
                BlockScorer(self._block_scores), train, heldout, self.config.metric, self.name
            ), int(rank)

        bounds = (0.0, float(largest))
        self.selection, rank = select(
            "rank",
            self.config.metric,
            self.config.grid,
            try_value,
            bounds=bounds,
            integer=True,
            progress=progress,
        )
        self._keep(encoder, decoder, rank)

    def _keep(self, encoder: np.ndarray, decoder: np.ndarray, rank: int) -> None:
        self._encoder = np.ascontiguousarray(encoder[:, :rank], dtype=np.float32)
        self._decoder = np.ascontiguousarray(decoder[:rank], dtype=np.float32)

    def _score(self, histories: Interactions) -> np.ndarray:
        return self._block_scores(histories)(0, histories.n_items)

    def _block_scores(self, histories: Interactions) -> BlockScores:
        states = _normalise(histories.to_csr(), self._item_scale) @ self._encoder
        return lambda first, last: states @ self._decoder[:, first:last]

    def _weights(self) -> dict[str, np.ndarray]:
        return {"encoder": self._encoder, "decoder": self._decoder, "item_scale": self._item_scale}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        self._encoder = expect_shape(weights, "encoder", (n_items, None))
        self._decoder = expect_shape(weights, "decoder", (self._encoder.shape[1], n_items))
        self._item_scale = expect_shape(weights, "item_scale", (n_items,))


def _width(config: SvdAEConfig, n_users: int, n_items: int) -> int:
    """Number of columns of the subspace iteration."""
    wanted = config.rank if config.rank is not None else 2 * max(config.grid)
    return min(wanted + _OVERSAMPLING, n_users, n_items)


def _inverse_sqrt(counts: np.ndarray) -> np.ndarray:
    """Returns count^-1/2 as float32; 1 for a count of 0, as in the reference."""
    return (1.0 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)


def _normalise(matrix: sp.csr_array, item_scale: np.ndarray) -> sp.csr_array:
    """Returns R̃ = D_u^-1/2 R D_i^-1/2, with the users' degrees taken from ``matrix``."""
    counts = np.diff(matrix.indptr)
    data = matrix.data * item_scale[matrix.indices] * np.repeat(_inverse_sqrt(counts), counts)
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _right_singular_vectors(
    matrix: sp.csr_array, width: int, rank_bound: int, iterations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns Σ float32 [k], descending, and V float32 [n_items, k], with k = width less the oversampling."""
    keep = width if width == rank_bound else width - _OVERSAMPLING
    if min(matrix.shape) <= _EXACT * width:
        return _from_gram_matrix(matrix, keep)
    # The basis is of the smaller side, users or items: each iteration makes as many numbers orthogonal as it has.
    few_users = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T.tocsr() if few_users else matrix
    wide = tall.T.tocsr()
    rng = np.random.default_rng(hashing.stream("svd_ae/basis", seed))
    basis = rng.standard_normal((tall.shape[1], width), dtype=np.float32)
    for _ in range(iterations):
        # SciPy's QR keeps float32, NumPy's does not.
        basis, _ = scipy.linalg.qr(wide @ (tall @ basis), mode="economic", overwrite_a=True, check_finite=False)
    if few_users:
        items, triangle = scipy.linalg.qr(tall @ basis, mode="economic", overwrite_a=True, check_finite=False)
        left, singular, _ = _svd(triangle)
        return singular[:keep], (items @ left)[:, :keep]
    triangle = scipy.linalg.qr(tall @ basis, mode="r", overwrite_a=True, check_finite=False)[0][:width]
    _, singular, rotation = _svd(triangle)
    return singular[:keep], (basis @ rotation.T)[:, :keep]


def _from_gram_matrix(matrix: sp.csr_array, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_right_singular_vectors`, exactly: float64 [n, n] of the fewer of users and items is decomposed."""
    matrix = matrix.astype(np.float64)
    few_users = matrix.shape[0] < matrix.shape[1]
    gram = (matrix @ matrix.T if few_users else matrix.T @ matrix).toarray()
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False)
    singular, vectors = np.sqrt(np.maximum(values[::-1][:keep], 0.0)), vectors[:, ::-1][:, :keep]
    if few_users:
        # V = R̃ᵀ U Σ^-1. Singular values that small are rounding; the caller leaves them out.
        vectors = (matrix.T @ vectors) / np.where(singular > 1e-6 * singular[0], singular, np.inf)
    return singular.astype(np.float32), np.ascontiguousarray(vectors, dtype=np.float32)


def _svd(square: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns U, Σ and Vᵀ of a small matrix."""
    try:
        return scipy.linalg.svd(square, check_finite=False)
    except np.linalg.LinAlgError:
        # Divide and conquer fails on some triangles of low rank with entries near the smallest float; the older, slower
        # iteration does not.
        return scipy.linalg.svd(square, check_finite=False, lapack_driver="gesvd")
