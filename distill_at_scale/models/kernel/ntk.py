"""The neural tangent kernel of an infinitely wide autoencoder with one hidden ReLU layer.

Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks" (NeurIPS 2022), section 3: a
network items → dense → ReLU → dense → items in NTK parameterisation with W_std = √2, b_std = 0.1, as its width
goes to infinity (closed forms of the ReLU expectations: Cho and Saul, NIPS 2009).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.synthetic_rows import FactoredRows

WEIGHT_VARIANCE = 2.0
"""Variance of the weights, W_std²."""
BIAS_VARIANCE = 0.01
"""Variance of the biases, b_std², b² in the formulas."""

# Rows of the kernel computed at a time: their float64 temporaries should stay near the cache.
BLOCK_USERS = 128
# Items' vectors converted to float64 at a time.
_BLOCK_VECTORS = 1 << 16


def ntk(
    gram: torch.Tensor,
    norms_a: torch.Tensor,
    norms_b: torch.Tensor,
    n_items: int,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Computes K(a, b) from inner products, without cancellation.

    With s = w G + b², q = w n + b² and w = W_std²/I, the angle θ between the hidden pre-activations has
    cos θ = s / sqrt(q_a q_b). Near θ = 0 an arccos loses half the digits; θ = atan2(r, s) does not, where
    r² = q_a q_b - s² = w² (n_a n_b - G²) + w b² (n_a + n_b - 2 G) is a sum of non-negative terms, both
    exact for binary histories.

    Args:
        gram: float64 [a, b], G, inner products of the histories; on any device, common to all arguments.
        norms_a: float64 [a], n_a, squared norms of the histories.
        norms_b: float64 [b], n_b.
        n_items: I.
        dtype: Type of the result; r² is always computed in float64.

    Returns:
        [a, b]; for a history with itself 2 q + b².
    """
    w, b2 = WEIGHT_VARIANCE / n_items, BIAS_VARIANCE
    n_a, n_b = norms_a[:, None], norms_b[None, :]
    spread = torch.addcmul(n_a * n_b, gram, gram, value=-1.0)
    distance = torch.add(n_a + n_b, gram, alpha=-2.0)
    r = torch.sqrt(torch.add(spread * (w * w), distance, alpha=w * b2).clamp_min(0.0).to(dtype))
    s = (gram * w + b2).to(dtype)
    theta = torch.atan2(r, s)
    return torch.addcmul(r / math.pi + b2, s, math.pi - theta, value=2.0 / math.pi)


def ntk_diagonal(norms: np.ndarray, n_items: int) -> np.ndarray:
    """Returns K(a, a) = 2 q + b², float64 [a], from the squared norms of the histories."""
    return 2.0 * (WEIGHT_VARIANCE / n_items * norms + BIAS_VARIANCE) + BIAS_VARIANCE


class TrainUsers:
    """The users that an ∞-AE is fitted on, with what kernel computations need.

    Attributes:
        matrix: float32 CSR [U, n_items], binary histories.
        norms: float64 [U], number of interactions of each user.
    """

    def __init__(self, rows: Interactions) -> None:
        self.matrix = rows.to_csr()
        self.n_items = rows.n_items
        self.norms = np.diff(self.matrix.indptr).astype(np.float64)

    def __len__(self) -> int:
        return len(self.norms)

    def kernel_with(
        self, histories: sp.csr_array, dtype: torch.dtype, device: torch.device, first: int = 0
    ) -> torch.Tensor:
        """Computes K(histories, train users from ``first`` on), [b, U - first].

        Args:
            histories: Binary CSR [b, n_items].
            dtype: Type of the result.
            device: Device of the elementwise part and of the result.
            first: Train users before this one are omitted.
        """
        kernel = torch.empty((histories.shape[0], len(self) - first), dtype=dtype, device=device)
        others = self.matrix[first:]
        others_norms = torch.from_numpy(self.norms[first:]).to(device)
        norms = torch.from_numpy(np.diff(histories.indptr).astype(np.float64)).to(device)
        with _one_thread():
            for start in range(0, histories.shape[0], BLOCK_USERS):
                rows = slice(start, min(start + BLOCK_USERS, histories.shape[0]))
                # Sparse times dense, since the product is almost full. Integers: exact in float32.
                gram = others @ np.ascontiguousarray(histories[rows].toarray().T)
                wide = torch.from_numpy(gram.T).to(device, torch.float64)
                kernel[rows] = ntk(wide, norms[rows], others_norms, self.n_items, dtype)
        return kernel

    def kernel(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Computes K(train users, train users), [U, U], exactly symmetric."""
        n = len(self)
        kernel = torch.empty((n, n), dtype=dtype, device=device)
        for start in range(0, n, 4 * BLOCK_USERS):
            stop = min(start + 4 * BLOCK_USERS, n)
            block = self.kernel_with(self.matrix[start:stop], dtype, device, first=start)
            kernel[start:stop, start:] = block
            kernel[stop:, start:stop] = block[:, stop - start :].T
        return kernel


class SyntheticUsers:
    """Users with real-valued rows, such as distilled ones, instead of :class:`TrainUsers`.

    Their inner products are not integers, so everything before the kernel is computed in float64.

    Attributes:
        rows: float32 [U, n_items].
        norms: float64 [U], squared norms of the rows.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float32)
        self.n_items = self.rows.shape[1]
        self._wide = self.rows.astype(np.float64)
        self.norms = np.einsum("ui,ui->u", self._wide, self._wide)

    def __len__(self) -> int:
        return len(self.norms)

    def kernel_with(self, histories: sp.csr_array, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Computes K(histories, these users), [b, U], for binary histories [b, n_items]."""
        gram = torch.from_numpy(self._gram_with(histories))
        norms = torch.from_numpy(np.diff(histories.indptr).astype(np.float64))
        return self._ntk(gram, norms, dtype, device)

    def kernel(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Computes K(these users, these users), [U, U], exactly symmetric."""
        gram = torch.from_numpy(self._gram())
        kernel = self._ntk((gram + gram.T) / 2, torch.from_numpy(self.norms), dtype, device)
        kernel.diagonal().copy_(torch.from_numpy(ntk_diagonal(self.norms, self.n_items)))
        return kernel

    def _gram(self) -> np.ndarray:
        """Returns S Sᵀ, float64 [U, U]."""
        gram: np.ndarray = self._wide @ self._wide.T
        return gram

    def _gram_with(self, histories: sp.csr_array) -> np.ndarray:
        """Returns x Sᵀ, float64 [b, U]."""
        gram: np.ndarray = histories.astype(np.float64) @ self._wide.T
        return gram

    def _ntk(self, gram: torch.Tensor, norms: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        own = torch.from_numpy(self.norms)
        return ntk(gram.to(device), norms.to(device), own.to(device), self.n_items, dtype)


class FactoredUsers(SyntheticUsers):
    """Users with rows S = Z Vᵀ: kernels need Z VᵀV Zᵀ and (x V) Zᵀ alone.

    Attributes:
        factors: Z and V.
        norms: float64 [U], squared norms of the rows.
    """

    def __init__(self, factors: FactoredRows) -> None:
        self.factors, self.n_items = factors, factors.n_items
        self._wide = factors.z.astype(np.float64)
        self._turned = self._wide @ gram_of(factors.v)
        self.norms = np.einsum("ur,ur->u", self._turned, self._wide)

    def _gram(self) -> np.ndarray:
        return self._turned @ self._wide.T

    def _gram_with(self, histories: sp.csr_array) -> np.ndarray:
        # One float32 product per entry of the histories, not a float64 copy of V.
        products: np.ndarray = histories.astype(np.float32, copy=False) @ self.factors.v
        return products.astype(np.float64) @ self._wide.T


def gram_of(vectors: np.ndarray) -> np.ndarray:
    """Returns VᵀV, float64 [r, r], for V [n_items, r] of any type; block by block."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK_VECTORS):
        block = vectors[start : start + _BLOCK_VECTORS].astype(np.float64)
        total += block.T @ block
    return total


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limits torch to one thread: blocks that fit the cache finish before a second thread wakes up, which costs CPU
    time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
