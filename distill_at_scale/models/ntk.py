"""The neural tangent kernel of an infinitely wide autoencoder with one hidden ReLU layer.

Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks" (NeurIPS 2022), section 3: a network
items → dense → ReLU → dense → items in NTK parameterisation with W_std = √2, b_std = 0.1, as its width goes to
infinity (closed forms of the ReLU expectations: Cho and Saul, NIPS 2009).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions

WEIGHT_VARIANCE = 2.0
"""W_std²"""
BIAS_VARIANCE = 0.01
"""b_std², b² in the formulas"""

# Rows of the kernel made at once: their float64 temporaries should stay near the cache.
BLOCK_USERS = 128


def ntk(gram: torch.Tensor, norms_a: torch.Tensor, norms_b: torch.Tensor, n_items: int) -> torch.Tensor:
    """K(a, b) from inner products, without cancellation.

    With s = w G + b², q = w n + b² and w = W_std²/I, the angle θ between the hidden pre-activations has
    cos θ = s / sqrt(q_a q_b). Near θ = 0 an arccos loses half the digits; θ = atan2(r, s) does not, where
    r² = q_a q_b - s² = w² (n_a n_b - G²) + w b² (n_a + n_b - 2 G) is a sum of non-negative parts, both exact for
    binary histories.

    Args:
        gram: float64 [a, b], G, inner products of the histories; on any device, as the others.
        norms_a: float64 [a], n_a, squared norms of the histories.
        norms_b: float64 [b], n_b.
        n_items: I.

    Returns:
        float64 [a, b]; a history with itself gives 2 q + b².
    """
    w, b2 = WEIGHT_VARIANCE / n_items, BIAS_VARIANCE
    n_a, n_b = norms_a[:, None], norms_b[None, :]
    r = ((n_a * n_b - gram * gram) * (w * w) + (n_a + n_b - 2.0 * gram) * (w * b2)).clamp_min_(0.0).sqrt_()
    s = gram * w + b2
    theta = torch.atan2(r, s)
    return (r + 2.0 * s * (math.pi - theta)) / math.pi + b2


def ntk_diagonal(norms: np.ndarray, n_items: int) -> np.ndarray:
    """K(a, a) = 2 q + b², float64 [a], from the squared norms of the histories."""
    return 2.0 * (WEIGHT_VARIANCE / n_items * norms + BIAS_VARIANCE) + BIAS_VARIANCE


class TrainUsers:
    """The users that an ∞-AE is fitted on, ready to be compared with others.

    Attributes:
        matrix: float32 CSR [U, n_items], their histories, binary.
        norms: float64 [U], interactions of each.
    """

    def __init__(self, rows: Interactions) -> None:
        self.matrix = rows.to_csr()
        # A log that keeps repeated rows must still give 0 and 1.
        self.matrix.sum_duplicates()
        self.matrix.data[:] = 1.0
        self.n_items = rows.n_items
        self.norms = np.diff(self.matrix.indptr).astype(np.float64)

    def __len__(self) -> int:
        return len(self.norms)

    def kernel_with(self, histories: np.ndarray, device: torch.device, first: int = 0) -> torch.Tensor:
        """K(histories, train users from ``first`` on), float64 [b, U - first].

        Args:
            histories: float32 [b, n_items], binary.
            device: where the elementwise part runs and the result lies.
            first: train users before it are left out.
        """
        # Sparse times dense, because the product itself is almost full. Whole numbers: exact in float32.
        gram = self.matrix[first:] @ np.ascontiguousarray(histories.T)
        norms = np.count_nonzero(histories, axis=1).astype(np.float64)
        return ntk(
            torch.from_numpy(gram.T).to(device, torch.float64),
            torch.from_numpy(norms).to(device),
            torch.from_numpy(self.norms[first:]).to(device),
            self.n_items,
        )

    def kernel(self, dtype: type[np.floating], device: torch.device) -> np.ndarray | torch.Tensor:
        """K(train users, train users), [U, U]: a numpy array on the CPU, a tensor elsewhere."""
        n = len(self)
        on_cpu = device.type == "cpu"
        torch_dtype = torch.float32 if dtype is np.float32 else torch.float64
        kernel = torch.empty((n, n), dtype=torch_dtype, device=device)
        for start in range(0, n, BLOCK_USERS):
            stop = min(start + BLOCK_USERS, n)
            block = self.kernel_with(self.matrix[start:stop].toarray(), device, first=start).to(torch_dtype)
            kernel[start:stop, start:] = block
            kernel[stop:, start:stop] = block[:, stop - start :].T
        return kernel.numpy() if on_cpu else kernel
