"""∞-AE fitted on a few real-valued rows, as a differentiable function of these rows.

    P = K(x, S) (K(S, S) + λ' I)^-1 S        λ' = λ · mean diagonal of K(S, S)

Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks" (NeurIPS 2022), equation 2 (∞-AE) inside
equation 4 (Distill-CF). The gradient is coded explicitly: that of the kernel takes a few products, and computing
W = K(x, S) (…)^-1 before W S avoids a linear system with one right-hand side per item.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.models.kernel.ntk import BIAS_VARIANCE, WEIGHT_VARIANCE, ntk

# Below this r²/(q_a q_b), two rows count as equal and 1/r as 0, since r is not differentiable at 0.
_SAME = 1e-5
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class Histories:
    """Binary input rows of a batch of users, with products from both sides.

    Attributes:
        norms: float64 [b], n, number of input items of each user.
        dense: [b, n_items], the rows as a dense tensor.
    """

    def __init__(self, matrix: sp.csr_array, dtype: torch.dtype, device: torch.device) -> None:
        self.norms = torch.from_numpy(np.diff(matrix.indptr).astype(np.float64)).to(device)
        self.dense = torch.from_numpy(matrix.toarray()).to(device, dtype)
        # A GPU is faster with the dense product than with the sparse one.
        self._sparse = matrix.astype(_NUMPY[dtype]) if device.type == "cpu" else None

    def gram(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns G = x Sᵀ, [b, μ], for rows S [μ, n_items]."""
        if self._sparse is None:
            return self.dense @ rows.T
        return torch.from_numpy(self._sparse @ rows.T.contiguous().numpy())

    def pull_back(self, cotangent: torch.Tensor) -> torch.Tensor:
        """Returns cotangentᵀ x, [μ, n_items], for a cotangent [b, μ] of :meth:`gram`."""
        if self._sparse is None:
            return cotangent.T @ self.dense
        return torch.from_numpy(self._sparse.T @ cotangent.numpy()).T


class RidgeWeights:
    """W = K(x, S) (K(S, S) + λ' I)^-1 and its derivative, from inner products of the rows alone, in float64.

    Attributes:
        values: W, [b, μ].

    Args:
        gram: S Sᵀ, float64 [μ, μ].
        cross: x Sᵀ, float64 [b, μ].
        norms: float64 [b], squared norms of x.
        lam: λ > 0.
        n_items: Number of items.

    Raises:
        FloatingPointError: The rows contain NaN, or λ is too small for rows that are nearly equal.
    """

    def __init__(self, gram: torch.Tensor, cross: torch.Tensor, norms: torch.Tensor, lam: float, n_items: int) -> None:
        self._gram, self._cross, self._cross_norms, self._lam, self._n_items = gram, cross, norms, lam, n_items
        self._norms = gram.diagonal().clone()
        q = WEIGHT_VARIANCE / n_items * self._norms + BIAS_VARIANCE
        kernel = ntk(gram, self._norms, self._norms, n_items)
        kernel.diagonal().copy_(2 * q + BIAS_VARIANCE)
        self._mean_diagonal = float(kernel.diagonal().mean())
        kernel.diagonal().add_(lam * self._mean_diagonal)
        self._factor, info = torch.linalg.cholesky_ex(kernel)
        if int(info) != 0:
            raise FloatingPointError("the kernel of the synthetic rows cannot be factorised")
        self.values = torch.cholesky_solve(ntk(cross, norms, self._norms, n_items).T, self._factor).T

    def backward(self, d_weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Pulls a derivative back to the inner products.

        Args:
            d_weights: ∂/∂W, float64 [b, μ].

        Returns:
            D, float64 [μ, μ], with ∂/∂S = D S through S Sᵀ; ∂/∂(x Sᵀ), float64 [b, μ]; ∂/∂log λ.
        """
        w = WEIGHT_VARIANCE / self._n_items
        # W = K_x A^-1, hence dK_x = dW A^-1 and dA = -Wᵀ dK_x.
        d_cross = torch.cholesky_solve(d_weights.T, self._factor).T
        d_system = -(self.values.T @ d_cross)
        d_shift = float(d_system.diagonal().sum())

        by_gram, by_norms = _slopes(self._cross, self._cross_norms, self._norms, self._n_items)
        d_cross_gram = d_cross * by_gram
        d_norms = (d_cross * by_norms).sum(0)

        # The diagonal, 2 q + b², is handled separately; λ' is λ times its mean.
        d_diagonal = d_system.diagonal().clone() + self._lam * d_shift / len(self._norms)
        d_system.diagonal().zero_()
        by_gram, by_norms = _slopes(self._gram, self._norms, self._norms, self._n_items)
        # Every pair occurs in both orders; by_norms is the derivative with respect to the second norm.
        d_system += d_system.T.clone()
        d_norms += (d_system * by_norms).sum(0) + 2 * w * d_diagonal
        d_gram = d_system * by_gram
        d_gram.diagonal().add_(2 * d_norms)
        return d_gram, d_cross_gram, d_shift * self._lam * self._mean_diagonal

    def backward_each(
        self, d_weights: torch.Tensor, pulled: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pulls each user's derivative back to Z of rows S = Z Vᵀ, through the kernels; :meth:`backward`, by user.

        A user's part of ∂/∂(S Sᵀ) is a sum of two outer products times slopes, so that no μ × μ matrix of a user is
        made.

        Args:
            d_weights: ∂/∂W, float64 [b, μ]; row u is of the loss of user u alone.
            pulled: Z VᵀV, float64 [μ, r].
            seen: x V, float64 [b, r].

        Returns:
            ∂/∂Z, float64 [b, μ, r], and ∂/∂log λ, float64 [b].
        """
        w, solved = self.values, torch.cholesky_solve(d_weights.T, self._factor).T
        d_diagonal = -w * solved
        d_shift = d_diagonal.sum(1)
        cross_by_gram, cross_by_norms = _slopes(self._cross, self._cross_norms, self._norms, self._n_items)
        by_gram, by_norms = _slopes(self._gram, self._norms, self._norms, self._n_items)
        by_gram.diagonal().zero_()
        by_norms.diagonal().zero_()
        d_norms = solved * cross_by_norms - solved * (w @ by_norms) - w * (solved @ by_norms)
        d_diagonal += self._lam * d_shift[:, None] / len(self._norms)
        d_norms += 2 * WEIGHT_VARIANCE / self._n_items * d_diagonal
        d_z = -w[:, :, None] * (by_gram @ (solved[:, :, None] * pulled))
        d_z -= solved[:, :, None] * (by_gram @ (w[:, :, None] * pulled))
        d_z += 2 * d_norms[:, :, None] * pulled
        d_z += (solved * cross_by_gram)[:, :, None] * seen[:, None, :]
        return d_z, d_shift * self._lam * self._mean_diagonal


class RidgePrediction:
    """A prediction and its derivative. Products have the dtype of the rows; kernel and linear system are float64.

    Attributes:
        predictions: P, [b, n_items].

    Args:
        histories: Users for whom to predict.
        rows: S, [μ, n_items], float32 or float64.
        lam: λ > 0.

    Raises:
        FloatingPointError: The rows contain NaN, or λ is too small for rows that are nearly equal.
    """

    def __init__(self, histories: Histories, rows: torch.Tensor, lam: float) -> None:
        self._histories, self._rows = histories, rows
        gram, cross = (rows @ rows.T).double(), histories.gram(rows).double()
        self._weights = RidgeWeights(gram, cross, histories.norms, lam, rows.shape[1])
        self._product = self._weights.values.to(rows.dtype)
        self.predictions = self._product @ rows

    def backward(self, cotangent: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Returns the derivatives of Σ cotangent · P with respect to the rows, [μ, n_items], and to log λ."""
        rows = self._rows
        # P = W S.
        d_gram, d_cross_gram, d_log_lam = self._weights.backward((cotangent @ rows.T).double())
        d_rows = self._product.T @ cotangent
        d_rows += d_gram.to(rows.dtype) @ rows
        d_rows += self._histories.pull_back(d_cross_gram.to(rows.dtype))
        return d_rows, d_log_lam


def _slopes(
    gram: torch.Tensor, norms_a: torch.Tensor, norms_b: torch.Tensor, n_items: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ∂K/∂G and ∂K/∂n_b of :func:`~distill_at_scale.models.kernel.ntk.ntk`, float64 [a, b].

    With ∂r²/∂G = -2ws, ∂r²/∂n_b = w q_a and r² + s² = q_a q_b these simplify to
    ∂K/∂G = w (2 (π - θ) + s/r) / π and ∂K/∂n_b = w (r - s²/r) / (2 π q_b).
    """
    w, b2 = WEIGHT_VARIANCE / n_items, BIAS_VARIANCE
    n_a, n_b = norms_a[:, None], norms_b[None, :]
    s = w * gram + b2
    square = (w * w * (n_a * n_b - gram * gram) + w * b2 * (n_a + n_b - 2 * gram)).clamp_min(0.0)
    q_a, q_b = w * n_a + b2, w * n_b + b2
    r = square.sqrt()
    inverse = torch.where(square < _SAME * q_a * q_b, 0.0, 1.0 / r)
    theta = torch.atan2(r, s)
    return (
        w / math.pi * (2.0 * (math.pi - theta) + s * inverse),
        w / (2.0 * math.pi) * (r - s * s * inverse) / q_b,
    )
