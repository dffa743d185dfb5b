"""What a distiller minimises: how far ∞-AE's predictions for real users are from what was hidden from it, or from all.

Each gives the loss summed over users and its derivative with respect to the predictions; what a batch is divided by
follows once the workers' sums are added up.
"""

from __future__ import annotations

import scipy.sparse as sp
import torch
import torch.nn.functional as F


def hidden_squares(
    predictions: torch.Tensor, inputs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_users (1/n_in) Σ_{i not in the input} (P_i − target_i)², the target 1 for what was hidden, else 0.

    Without hidden targets a distiller learns to copy its input, which costs more than all else that was tried.

    Args:
        predictions: P, [b, n_items].
        inputs, hidden: zeros and ones [b, n_items], apart from each other; a user without input counts nothing.

    Returns:
        the loss, a scalar, and ∂/∂P [b, n_items].
    """
    n_in = inputs.sum(1, keepdim=True)
    weights = torch.where(n_in > 0, 1.0 / n_in.clamp_min(1.0), 0.0)
    # In place: the large temporaries of the plain formula cost more than its arithmetic.
    errors = predictions - hidden
    errors.addcmul_(errors, inputs, value=-1.0)
    loss = (torch.linalg.vector_norm(errors, dim=1, keepdim=True).square() * weights).sum()
    return loss, errors.mul_(2.0 * weights)


def likelihood(
    predictions: torch.Tensor, inputs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """−Σ_users Σ_i x_i log softmax(P)_i over all of a user's items x, input and hidden.

    Source: Sachdeva, Dhaliwal, Wu, McAuley (NeurIPS 2022), section 4: the multinomial likelihood.

    Args, Returns: as :func:`hidden_squares`.
    """
    targets = inputs + hidden
    log_p = F.log_softmax(predictions, dim=1)
    loss = -(targets * log_p).sum()
    return loss, log_p.exp() * targets.sum(1, keepdim=True) - targets


def dense(rows: sp.csr_array, like: torch.Tensor) -> torch.Tensor:
    """CSR rows as a tensor of the kind of ``like``."""
    return torch.from_numpy(rows.toarray()).to(like.device, like.dtype)
