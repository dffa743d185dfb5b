"""Sums of clipped gradients, one of each user."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.distillation.factored_rows import ItemVectors, hidden_squares_each

# Numbers of users × rows × coordinates that are in memory at a time, in float64, a few times over.
BLOCK = 1 << 19


def clipped_sum(
    z: torch.Tensor,
    log_lam: float,
    vectors: ItemVectors,
    inputs: sp.csr_array,
    hidden: sp.csr_array,
    clip: float,
) -> tuple[torch.Tensor, int]:
    """Returns Σ_u g_u min(1, C/|g_u|), float64 [μ · r + 1], and how many users' gradients were cut.

    g_u is the derivative of the user's own loss by Z and, as the last number, by log λ; |g_u| is over all of them. So
    one user changes the sum by at most C in norm, whatever rows they have.

    Args:
        z: Z, [μ, r].
        log_lam: log λ.
        vectors: V.
        inputs, hidden: Disjoint binary rows [b, n_items].
        clip: C.
    """
    total, cut = torch.zeros(z.numel() + 1, dtype=torch.float64), 0
    size = max(1, BLOCK // z.numel())
    for first in range(0, inputs.shape[0], size):
        block = slice(first, first + size)
        d_z, d_log_lam = hidden_squares_each(z, log_lam, vectors, inputs[block], hidden[block])
        each = torch.cat((d_z.flatten(1), d_log_lam[:, None]), 1)
        norms = torch.linalg.vector_norm(each, dim=1).nan_to_num(nan=torch.inf, posinf=torch.inf)
        # A gradient that is not finite adds nothing, rather than ending the run, which would tell of its user.
        each = torch.where(norms.isfinite()[:, None], each, 0.0)
        factors = (clip / norms.clamp_min(1e-300)).clamp_max(1.0)
        total += factors @ each
        cut += int((norms > clip).sum())
    return total, cut


def splittable(rows: sp.csr_array) -> np.ndarray:
    """Returns the positions of rows with at least two entries: one can be an input, another a target."""
    return np.flatnonzero(np.diff(rows.indptr) > 1)
