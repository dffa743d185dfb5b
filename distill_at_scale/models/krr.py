"""Kernel ridge regression on binary targets: α = (K + λ' I)^-1 X, one Cholesky factorisation a λ.

One factorisation for each λ is cheaper than one eigendecomposition for all of a grid of this size, and the
buffers are the same for every λ: the kernel, its factor, and the targets that the solver turns into α.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.errors import DasError
from distill_at_scale.models.linalg import cholesky_in_place, solve_in_place


class KernelRidge:
    """Solves for several λ with the same kernel and targets.

    Args:
        kernel: [U, U], symmetric positive semi-definite, float32 or float64; numpy (CPU) or a tensor (GPU).
        targets: CSR [U, n_items], X.
        name: for messages.
    """

    def __init__(self, kernel: np.ndarray | torch.Tensor, targets: sp.csr_array, name: str) -> None:
        self._kernel = kernel
        self._targets = targets
        self._name = name
        self._factor = np.empty_like(kernel) if isinstance(kernel, np.ndarray) else None

    def solve(self, shift: float) -> np.ndarray:
        """α for λ' = ``shift``.

        Returns:
            [U, n_items] in the kernel's dtype, in Fortran order, newly allocated.

        Raises:
            DasError: when K + λ' I is not positive definite in this precision.
        """
        if isinstance(self._kernel, np.ndarray):
            assert self._factor is not None
            np.copyto(self._factor, self._kernel)
            self._factor.reshape(-1)[:: len(self._kernel) + 1] += shift
            factor = cholesky_in_place(self._factor, self._name)
            alpha = self._targets.T.toarray(order="C").astype(self._kernel.dtype, copy=False)
            solve_in_place(factor, alpha)
            return alpha.T
        return self._solve_torch(self._kernel, shift)

    def _solve_torch(self, kernel: torch.Tensor, shift: float) -> np.ndarray:
        shifted = kernel.clone()
        shifted.diagonal().add_(shift)
        factor, info = torch.linalg.cholesky_ex(shifted)
        del shifted
        if int(info) != 0:
            raise DasError(
                f"{self._name}: the regularised kernel is not positive definite in {kernel.dtype}; "
                "use a larger lam, or dtype=float64."
            )
        targets = torch.from_numpy(self._targets.toarray()).to(kernel.device, kernel.dtype)
        return torch.cholesky_solve(targets, factor).cpu().numpy()
