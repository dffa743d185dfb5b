"""Nyström: kernel ridge regression in the span of a few landmarks, by normal equations over streamed blocks of users.

    W = (Σ_b K_bMᵀ K_bM + λ' K_MM)^-1 Σ_b K_bMᵀ X_b          (subset of regressors; M landmarks, b blocks of users)

The two sums, M² + M·I numbers, are sufficient statistics of the users: they can be summed over blocks and workers, and
serve every λ. Sources: Williams and Seeger, "Using the Nyström method to speed up kernel machines" (NIPS 2000);
Rudi, Camoriano, Rosasco, "Less is more: Nyström computational regularization" (NeurIPS 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.kernel.landmarks import BLOCK, mean_diagonal
from distill_at_scale.models.kernel.ntk import SyntheticUsers, TrainUsers
from distill_at_scale.models.linalg import cholesky_in_place, solve_in_place
from distill_at_scale.models.selection import Progress, Selection, Validated, evaluator_of, select
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.validation import JudgedUsers, item_weights, merged_metric

_CPU = torch.device("cpu")


class NormalEquations:
    """The two sums of a fit, in float64.

    Attributes:
        landmarks: M users, binary or real-valued.
        gram: float64 [M, M], Σ_b K_bMᵀ K_bM.
        targets: float64 [I, M], (Σ_b K_bMᵀ X_b)ᵀ.
    """

    def __init__(self, landmarks: TrainUsers | SyntheticUsers, gram_only: bool = False) -> None:
        self.landmarks = landmarks
        self.gram = np.zeros((len(landmarks), len(landmarks)))
        self.targets = np.zeros((0 if gram_only else landmarks.n_items, len(landmarks)))

    def add(self, rows: Interactions) -> None:
        """Adds some users."""
        for start in range(0, len(rows), BLOCK):
            matrix = rows.slice(start, start + BLOCK).to_csr(dtype=np.float64)
            kernel = self.landmarks.kernel_with(matrix, torch.float64, _CPU).numpy()
            self.gram += kernel.T @ kernel
            if len(self.targets):
                self.targets += matrix.T @ kernel

    def merge(self, communicator: Communicator) -> None:
        """Sums over all workers; each then has the sums over all users."""
        for array in (self.gram, self.targets):
            communicator.all_reduce(torch.from_numpy(array))

    def factor(self, shift: float) -> np.ndarray:
        """Computes the Cholesky factor of Σ_b K_bMᵀ K_bM + λ' K_MM for λ' = ``shift``, float64 [M, M].

        Raises:
            DasError: The matrix is not positive definite.
        """
        matrix = self.landmarks.kernel(torch.float64, _CPU).numpy()
        matrix *= shift
        matrix += self.gram
        return cholesky_in_place(matrix, "infinite_ae with nystrom")

    def solve(self, shift: float, communicator: Communicator) -> np.ndarray:
        """Computes W for λ' = ``shift``; every worker solves for a range of items.

        Returns:
            float64 [M, I], on each worker.

        Raises:
            DasError: As :meth:`factor`.
        """
        factor = self.factor(shift)
        n_items = len(self.targets)
        own = slice(
            n_items * communicator.rank // communicator.world_size,
            n_items * (communicator.rank + 1) // communicator.world_size,
        )
        solution = self.targets[own].copy()
        solve_in_place(factor, solution)
        if communicator.world_size == 1:
            return solution.T
        weights = np.zeros((n_items, len(self.landmarks)))
        weights[own] = solution
        communicator.all_reduce(torch.from_numpy(weights))
        return weights.T


def fit_nystrom(
    source: Source,
    landmarks: TrainUsers | SyntheticUsers,
    grid: Sequence[float],
    metric: str,
    dtype: np.dtype | type,
    communicator: Communicator,
    progress: Progress | None = None,
) -> tuple[Selection | None, np.ndarray]:
    """Fits the users of all workers, and selects λ on their validation rows.

    Args:
        source: This worker's share.
        landmarks: Landmarks, the same on every worker.
        grid: Values of λ, relative to the mean diagonal of all users' kernel; a single value is used without selection.
        metric: Metric of the selection.
        dtype: Type of W, and of validation scores.
        communicator: Communicator of the workers.
        progress: Function called with the share done and the step.

    Returns:
        The selection of λ; W [M, I].

    Raises:
        DasError: A matrix is not positive definite.
    """
    equations = NormalEquations(landmarks)
    for piece in range(source.n_pieces):
        if progress:
            progress(0.5 * piece / source.n_pieces, "normal equations")
        equations.add(source.train(piece))
    equations.merge(communicator)
    diagonal, _ = mean_diagonal(source, communicator)
    if len(grid) == 1:
        return None, _finite(equations.solve(grid[0] * diagonal, communicator), dtype)

    of_items = item_weights(map(source.train, range(source.n_pieces)), source.n_items, communicator)
    judged = JudgedUsers(source, communicator)

    def try_value(lam: float) -> tuple[Validated, np.ndarray]:
        weights = _finite(equations.solve(lam * diagonal, communicator), dtype)
        return _validate(judged, landmarks, weights, metric, of_items, communicator), weights

    def after(share: float, step: str) -> None:
        if progress:
            progress(0.5 + share / 2, step)

    return select("lam", metric, grid, try_value, progress=after)


def _validate(
    judged: JudgedUsers,
    landmarks: TrainUsers | SyntheticUsers,
    weights: np.ndarray,
    metric: str,
    of_items: np.ndarray,
    communicator: Communicator,
) -> Validated:
    evaluator = evaluator_of(metric, of_items, "infinite_ae")
    dtype = torch.from_numpy(weights).dtype
    judged.add_to(
        evaluator,
        lambda rows: (landmarks.kernel_with(rows.to_csr(), dtype, _CPU).numpy() @ weights).astype(np.float32),
    )
    return merged_metric(evaluator, metric, communicator)


def _finite(weights: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    if not np.isfinite(weights).all():
        raise DasError("infinite_ae: the solution is not finite; use a larger lam, or fewer landmarks.")
    return np.ascontiguousarray(weights, dtype=dtype)
