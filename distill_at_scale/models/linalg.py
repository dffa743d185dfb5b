"""Dense in-place linear algebra: LAPACK's Cholesky on symmetric matrices, with errors that name the remedy.

SciPy's LAPACK overwrites its input, where torch and numpy allocate a copy. For large matrices this halves the memory
(and it is faster on the CPUs tried).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from distill_at_scale.errors import DasError

_MIRROR_BLOCK = 512

FLOAT32_CONDITION = 2e4
"""Condition number above which float32 (6e-8) may be wrong in the third digit: 2e4 × 6e-8 ≈ 1e-3."""


def cholesky_in_place(matrix: np.ndarray, name: str) -> np.ndarray:
    """Computes the Cholesky factor of a symmetric matrix [n, n] (C order, float32 or float64), overwriting it.

    Returns:
        A Fortran-ordered view of ``matrix`` whose lower triangle is the factor; the upper triangle is unchanged.

    Raises:
        DasError: The matrix is not positive definite in its precision.
    """
    potrf = _lapack("potrf", matrix)
    factor, info = potrf(matrix.T, lower=1, overwrite_a=1, clean=0)
    if info != 0:
        raise not_positive_definite(name, str(matrix.dtype))
    return factor


def not_positive_definite(name: str, dtype: str) -> DasError:
    """Returns the error of a failed factorisation."""
    return DasError(
        f"{name}: the regularised matrix is not positive definite in {dtype}; use a larger lam, or dtype=float64."
    )


def solve_in_place(factor: np.ndarray, right: np.ndarray) -> None:
    """Solves A x = b for every row b of ``right`` [m, n] (C order), overwriting it with the solutions."""
    potrs = _lapack("potrs", factor)
    solution, _ = potrs(factor, right.T, lower=1, overwrite_b=1)
    if not np.shares_memory(solution, right):
        right[:] = solution.T


def inverse_in_place(matrix: np.ndarray, name: str) -> None:
    """Overwrites a symmetric positive definite matrix [n, n] (C order) with its inverse.

    Raises:
        DasError: As :func:`cholesky_in_place`.
    """
    factor = cholesky_in_place(matrix, name)
    potri = _lapack("potri", factor)
    inverse, _ = potri(factor, lower=1, overwrite_c=1)
    # LAPACK fills the lower triangle of the Fortran view, which is the upper one of `matrix`.
    if not np.shares_memory(inverse, matrix):
        matrix[:] = inverse.T
    mirror_upper(matrix)


def mirror_upper(matrix: np.ndarray) -> None:
    """Copies the upper triangle [n, n] into the lower one, in blocks that stay in cache."""
    n = len(matrix)
    for start in range(0, n, _MIRROR_BLOCK):
        stop = min(start + _MIRROR_BLOCK, n)
        corner = matrix[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T


def _lapack(routine: str, matrix: np.ndarray) -> Any:
    return scipy.linalg.get_lapack_funcs(routine, (matrix,))
