"""∞-AE's loss on synthetic rows that are a product of two small factors, S = Z Vᵀ, and its derivative.

    S Sᵀ = Z M Zᵀ with M = VᵀV        x Sᵀ = (x V) Zᵀ        P = W S = C Vᵀ with C = W Z

The squared error over all items is Σ_i P_i² = C M Cᵀ, corrected at the user's own items; so P itself is needed at these
alone. With fixed V, a step takes time for the batch's rows times r, and for μ × μ and b × μ matrices, whatever the
number of items, and workers sum μ · r numbers. A derivative with respect to V takes a product with V, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.distillation.differentiable_krr import RidgeWeights
from distill_at_scale.models.kernel.ntk import gram_of

_BLOCK_ENTRIES = 1 << 16


class ItemVectors:
    """V with products with sparse rows of a batch, which touch the batch's items only.

    Attributes:
        values: float32 or float64 [n_items, r].
        gram: M = VᵀV, float64 [r, r].
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)
        self.gram = torch.from_numpy(gram_of(self.values))

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.values)

    def products(self, rows: sp.csr_array) -> torch.Tensor:
        """Returns rows V, float64 [b, r], for sparse rows [b, n_items]."""
        return torch.from_numpy(rows.astype(self.values.dtype, copy=False) @ self.values).double()

    def at_entries(self, rows: sp.csr_array, coordinates: np.ndarray) -> np.ndarray:
        """Returns C Vᵀ at the entries of sparse rows [b, n_items], in their order; C is [b, r]."""
        found = np.empty(rows.nnz, dtype=self.values.dtype)
        owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        for start in range(0, rows.nnz, _BLOCK_ENTRIES):
            chosen = slice(start, start + _BLOCK_ENTRIES)
            found[chosen] = np.einsum("er,er->e", coordinates[owners[chosen]], self.values[rows.indices[chosen]])
        return found


@dataclass(frozen=True)
class Slopes:
    """A loss summed over users, with its derivatives.

    Attributes:
        loss: The loss.
        z: ∂/∂Z, [μ, r].
        log_lam: ∂/∂log λ.
        v: ∂/∂V, [n_items, r]; None if not asked for.
    """

    loss: float
    z: torch.Tensor
    log_lam: float
    v: torch.Tensor | None


def hidden_squares(
    z: torch.Tensor,
    log_lam: float,
    vectors: ItemVectors,
    inputs: sp.csr_array,
    hidden: sp.csr_array,
    learn_vectors: bool = False,
) -> Slopes:
    """Computes :func:`~distill_at_scale.distillation.losses.hidden_squares` of ∞-AE's predictions on S = Z Vᵀ.

    Args:
        z: Z, [μ, r].
        log_lam: log λ.
        vectors: V.
        inputs, hidden: Disjoint binary rows [b, n_items].
        learn_vectors: Whether to compute ∂/∂V.

    Raises:
        FloatingPointError: Z or V contains NaN, or λ is too small for rows that are nearly equal.
    """
    at = _Forward(z, log_lam, vectors, inputs, hidden)
    wide = at.wide
    d_gram, d_cross, d_log_lam = at.weights.backward(at.d_coordinates @ wide.T)
    d_z = at.weights.values.T @ at.d_coordinates + d_gram @ at.turned + d_cross.T @ at.seen
    d_v = None
    if learn_vectors:
        scaled = 2.0 * at.share[:, None] * at.coordinates
        # ∂/∂V = (∂/∂P)ᵀ C + V Zᵀ D Z + xᵀ ∂/∂(x Sᵀ) Z: of dense parts only a product of V with [r, r].
        small = at.coordinates.T @ scaled + wide.T @ d_gram @ wide
        d_v = torch.from_numpy(vectors.values @ small.numpy().astype(vectors.values.dtype))
        d_v += _transposed_product(inputs, d_cross @ wide, d_v.dtype)
        d_v -= _transposed_product(at.taken, scaled, d_v.dtype)
        d_v = d_v.to(z.dtype)
    return Slopes(float(at.losses.sum()), d_z.to(z.dtype), d_log_lam, d_v)


def hidden_squares_each(
    z: torch.Tensor, log_lam: float, vectors: ItemVectors, inputs: sp.csr_array, hidden: sp.csr_array
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the derivatives of each user's own :func:`hidden_squares`: ∂/∂Z, float64 [b, μ, r], and ∂/∂log λ,
    float64 [b]."""
    at = _Forward(z, log_lam, vectors, inputs, hidden)
    d_z, d_log_lam = at.weights.backward_each(at.d_coordinates @ at.wide.T, at.turned, at.seen)
    d_z += at.weights.values[:, :, None] * at.d_coordinates[:, None, :]
    return d_z, d_log_lam


class _Forward:
    """The losses of a batch [b], ∂/∂C, and what their derivatives need."""

    def __init__(
        self, z: torch.Tensor, log_lam: float, vectors: ItemVectors, inputs: sp.csr_array, hidden: sp.csr_array
    ) -> None:
        self.wide, self.seen = z.double(), vectors.products(inputs)  # Z and x V
        self.turned = self.wide @ vectors.gram  # Z M
        counts = torch.from_numpy(np.diff(inputs.indptr).astype(np.float64))
        gram, cross = self.turned @ self.wide.T, self.seen @ self.wide.T
        self.weights = RidgeWeights(gram, cross, counts, math.exp(log_lam), vectors.n_items)
        self.coordinates = self.weights.values @ self.wide  # C
        spread = self.coordinates @ vectors.gram  # C M

        # An error is P outside the input and the hidden items, P - 1 at hidden items, and 0 in the input. So the sum of
        # squares is that of P, less P² in the input, less 2 P - 1 at the hidden items.
        narrow = self.coordinates.numpy().astype(vectors.values.dtype)
        known, missed = vectors.at_entries(inputs, narrow), vectors.at_entries(hidden, narrow)
        self.share = 1.0 / counts.clamp_min(1.0)
        squares = (self.coordinates * spread).sum(1) - _sums(inputs, known * known) - _sums(hidden, 2 * missed - 1)
        self.losses = squares * self.share
        self.taken = _with_values(inputs, known) + _with_values(hidden, np.ones_like(missed))
        # ∂/∂P = 2 share (P - taken), and ∂/∂C = ∂/∂P V.
        self.d_coordinates = 2.0 * self.share[:, None] * (spread - vectors.products(self.taken))


def _sums(rows: sp.csr_array, values: np.ndarray) -> torch.Tensor:
    """Returns the sums of the entries' values by row, float64 [b]."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, dtype=np.float64, out=sums[1:])
    return torch.from_numpy(sums[rows.indptr[1:]] - sums[rows.indptr[:-1]])


def _with_values(rows: sp.csr_array, values: np.ndarray) -> sp.csr_array:
    return sp.csr_array((values, rows.indices, rows.indptr), shape=rows.shape)


def _transposed_product(rows: sp.csr_array, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns rowsᵀ right, [n_items, r]."""
    narrow = right.to(dtype).numpy()
    return torch.from_numpy(rows.astype(narrow.dtype, copy=False).T @ narrow)
