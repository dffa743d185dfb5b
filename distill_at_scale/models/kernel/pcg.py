"""Conjugate gradients on (K + λ' I) α = X, with the kernel streamed in blocks and a Nyström preconditioner.

Every worker holds its own users' rows of the iterate α, the residual R and the direction P. In each iteration the
workers broadcast P block by block, and compute the blocks of K that they need on the fly. All columns (items) are
solved at once, each with its own step size. Sources: Hestenes and Stiefel (1952); Frangella, Tropp, Udell, "Randomized
Nyström preconditioning" (SIMAX 2023), with landmarks instead of a Gaussian sketch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.kernel.landmarks import BLOCK
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.models.kernel.nystrom import NormalEquations
from distill_at_scale.models.linalg import solve_in_place
from distill_at_scale.models.training.communicator import Communicator

_CPU = torch.device("cpu")
# Own users whose kernel with a block of others is computed at a time.
_TILE = 512
MOST_ITERATIONS = 200


class Sharing(Communicator):
    """A communicator with broadcast; this class is the single-worker case."""

    def share(self, tensor: torch.Tensor, owner: int) -> None:
        """Replaces ``tensor`` with that of the worker of rank ``owner``."""


class StreamedKernel:
    """K(own users, all users) as an operator; at most one tile of it is in memory.

    Args:
        everyone: Train rows of every worker's users, by rank.
        dtype: Type of the kernel and of the vectors it multiplies.
        communicator: Communicator of the workers, who must multiply at the same time.
    """

    def __init__(self, everyone: Sequence[Interactions], dtype: np.dtype | type, communicator: Sharing) -> None:
        self._communicator = communicator
        self._dtype = np.dtype(dtype)
        self._blocks = [
            (rank, start, TrainUsers(rows.slice(start, start + BLOCK)))
            for rank, rows in enumerate(everyone)
            for start in range(0, len(rows), BLOCK)
        ]
        self.own = everyone[communicator.rank].to_csr(dtype=self._dtype)

    def times(self, direction: np.ndarray, product: np.ndarray) -> None:
        """Writes the own rows of K times the workers' ``direction`` [own users, c] to ``product`` [own users, c]."""
        product[:] = 0
        width = direction.shape[1]
        buffer = (
            np.empty((BLOCK, width), dtype=self._dtype) if self._communicator.world_size > 1 else np.empty((0, width))
        )
        dtype = torch.from_numpy(product).dtype
        for owner, start, block in self._blocks:
            piece = direction[start : start + len(block)] if owner == self._communicator.rank else buffer[: len(block)]
            self._communicator.share(torch.from_numpy(piece), owner)
            for first in range(0, len(product), _TILE):
                tile = slice(first, first + _TILE)
                product[tile] += block.kernel_with(self.own[tile], dtype, _CPU).numpy() @ piece


class Preconditioner:
    """(K̂ + λ' I)^-1 with K̂ = K_UM K_MM^-1 K_MU, the Nyström approximation, applied by Woodbury's identity.

    (K̂ + λ' I)^-1 V = (V - K_UM (λ' K_MM + K_MU K_UM)^-1 K_MU V) / λ'; its middle factor is that of Nyström's normal
    equations.

    Args:
        landmarks: M users.
        rows: Train rows of the own users.
        dtype: Type of the vectors it is applied to.
        communicator: Communicator of the workers.
    """

    def __init__(
        self, landmarks: TrainUsers, rows: Interactions, dtype: np.dtype | type, communicator: Communicator
    ) -> None:
        self._communicator = communicator
        self._equations = NormalEquations(landmarks, gram_only=True)
        self._equations.add(rows)
        self._equations.merge(communicator)
        wide = torch.float32 if np.dtype(dtype) == np.float32 else torch.float64
        self._kernel = landmarks.kernel_with(rows.to_csr(), wide, _CPU).numpy()
        self._shift, self._factor = 0.0, np.empty((0, 0))

    def set_shift(self, shift: float) -> None:
        """Sets λ' = ``shift``.

        Raises:
            DasError: The middle factor is not positive definite.
        """
        self._shift, self._factor = shift, self._equations.factor(shift)

    def apply(self, values: np.ndarray, result: np.ndarray) -> None:
        """Writes the workers' ``values`` times the preconditioner to ``result`` [own users, c]."""
        middle = np.ascontiguousarray((self._kernel.T @ values).T, dtype=np.float64)
        self._communicator.all_reduce(torch.from_numpy(middle))
        solve_in_place(self._factor, middle)
        np.matmul(self._kernel, middle.T.astype(values.dtype), out=result)
        np.subtract(values, result, out=result)
        result /= self._shift


class ConjugateGradients:
    """Solves for some columns of X; all workers step at the same time.

    Attributes:
        alpha: [own users, c], the iterate.
        iteration: Number of steps done.
        residual: ‖X - (K + λ' I) α‖ / ‖X‖ over all workers' users and these columns (Frobenius), by the recursion.
    """

    def __init__(
        self,
        kernel: StreamedKernel,
        preconditioner: Preconditioner,
        targets: sp.csr_array,
        shift: float,
        communicator: Communicator,
    ) -> None:
        self._kernel, self._preconditioner, self._shift, self._communicator = (
            kernel,
            preconditioner,
            shift,
            communicator,
        )
        self._left = targets.toarray(order="C")  # R
        self.alpha = np.zeros_like(self._left)
        self._spare = np.empty_like(self._left)  # K P, or the preconditioned R
        preconditioner.apply(self._left, self._spare)
        self._direction = self._spare.copy()  # P
        self._rz = self._sums(self._left, self._spare)
        self._scale = max(float(self._sums(self._left, self._left).sum()), np.finfo(np.float64).tiny)
        self.residual = 1.0 if self._rz.any() else 0.0
        self.iteration = 0

    def step(self) -> None:
        """Runs one iteration: one product with the kernel.

        Raises:
            DasError: The iteration diverged to non-finite numbers.
        """
        product = self._spare
        self._kernel.times(self._direction, product)
        product += self._shift * self._direction
        step = _ratio(self._rz, self._sums(self._direction, product)).astype(product.dtype)
        _add_scaled(self.alpha, self._direction, step)
        _add_scaled(self._left, product, -step)
        self.residual = float(np.sqrt(self._sums(self._left, self._left).sum() / self._scale))
        if not np.isfinite(self.residual):
            raise DasError("infinite_ae: conjugate gradients diverged; use a larger lam, or dtype=float64.")
        self._preconditioner.apply(self._left, self._spare)
        rz = self._sums(self._left, self._spare)
        self._direction *= _ratio(rz, self._rz).astype(product.dtype)
        self._direction += self._spare
        self._rz = rz
        self.iteration += 1

    def state(self) -> dict[str, np.ndarray]:
        """Returns all arrays that :meth:`restore` needs; views of what the next step changes."""
        return {
            "alpha": self.alpha,
            "left": self._left,
            "direction": self._direction,
            "rz": self._rz,
            "place": np.array([self.iteration, self.residual]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores a state from :meth:`state`, for the same columns and λ."""
        self.alpha[:], self._left[:], self._direction[:] = state["alpha"], state["left"], state["direction"]
        self._rz = state["rz"].copy()
        self.iteration, self.residual = int(state["place"][0]), float(state["place"][1])

    def _sums(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns inner products of columns over all workers' users, float64 [c]."""
        sums = np.zeros(a.shape[1])
        for start in range(0, len(a), _TILE):
            rows = slice(start, start + _TILE)
            sums += np.einsum("uc,uc->c", a[rows], b[rows], dtype=np.float64)
        self._communicator.all_reduce(torch.from_numpy(sums))
        return sums


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Returns the quotient; 0 for a column that is solved (or was empty)."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _add_scaled(into: np.ndarray, values: np.ndarray, scale: np.ndarray) -> None:
    """Adds ``values`` · ``scale`` (per column) to ``into``, without a second array of that size."""
    for start in range(0, len(into), _TILE):
        rows = slice(start, start + _TILE)
        into[rows] += values[rows] * scale
