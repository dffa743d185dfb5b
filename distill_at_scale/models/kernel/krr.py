"""Kernel ridge regression: α = (K + λ' I)^-1 X, by one Cholesky factorisation per λ.

For grids of this size, one factorisation per λ is cheaper than one eigendecomposition for all. All λ share the
buffers: the kernel, its factor, and the targets, which the solver overwrites with α.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.models.linalg import cholesky_in_place, not_positive_definite, solve_in_place

Targets: TypeAlias = "sp.csr_array | np.ndarray"


class KernelRidge:
    """Solves for several λ with the same kernel and targets.

    Args:
        kernel: [U, U], symmetric positive semi-definite, float32 or float64, on the device of the solver.
        targets: [U, n_items], X: CSR, or dense for dense rows (synthetic users).
        name: Name of the model, for messages.
    """

    def __init__(self, kernel: torch.Tensor, targets: Targets, name: str) -> None:
        self._kernel = kernel
        self._targets = targets
        self._name = name
        self._factor = torch.empty_like(kernel)

    def solve(self, shift: float) -> np.ndarray:
        """Returns α for λ' = ``shift``.

        Returns:
            [U, n_items] in the kernel's dtype, newly allocated, in the solver's memory order.

        Raises:
            DasError: K + λ' I is not positive definite in this precision.
        """
        self._factor.copy_(self._kernel)
        self._factor.diagonal().add_(shift)
        solve = solve_lapack if self._factor.device.type == "cpu" else solve_torch
        return solve(self._factor, self._targets, self._name)


def solve_lapack(matrix: torch.Tensor, targets: Targets, name: str) -> np.ndarray:
    """Solves in place with SciPy's LAPACK: ``matrix`` (on the CPU) is overwritten with its factor."""
    factor = cholesky_in_place(matrix.numpy(), name)
    solution = _transposed(targets).astype(factor.dtype, copy=False)
    solve_in_place(factor, solution)
    return solution.T


def solve_torch(matrix: torch.Tensor, targets: Targets, name: str) -> np.ndarray:
    """Solves with torch, on the device of ``matrix``."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0:
        raise not_positive_definite(name, str(matrix.dtype).removeprefix("torch."))
    right = torch.from_numpy(_transposed(targets)).T.to(matrix.device, matrix.dtype)
    return torch.cholesky_solve(right, factor).cpu().numpy()


def _transposed(targets: Targets) -> np.ndarray:
    """Returns a dense copy [n_items, U] in C order."""
    return np.array(targets.T, order="C") if isinstance(targets, np.ndarray) else targets.T.toarray(order="C")
