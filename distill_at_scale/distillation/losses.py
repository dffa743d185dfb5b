"""Losses of Distill-CF: ∞-AE's predictions for real users against their hidden items, or against all of their items.

Each function returns the loss summed over users and its derivative with respect to the predictions; the division by the
batch size follows after the workers' sums are added.
"""

from __future__ import annotations

import scipy.sparse as sp
import torch
import torch.nn.functional as F


def hidden_squares(
    predictions: torch.Tensor, inputs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_users (1/n_in) Σ_{i not in the input} (P_i − target_i)², where target_i is 1 for hidden items, else 0.

    Without hidden targets the rows learn to copy the input, which loses more quality than any other setting.

    Args:
        predictions: P, [b, n_items].
        inputs, hidden: Disjoint binary matrices [b, n_items]; a user without input has the weight of a user with one
            input item.

    Returns:
        The loss, a scalar, and ∂/∂P [b, n_items].
    """
    n_in = inputs.sum(1, keepdim=True)
    weights = 1.0 / n_in.clamp_min(1.0)
    # In place, since large temporaries would cost more than the arithmetic.
    errors = predictions - hidden
    errors.addcmul_(errors, inputs, value=-1.0)
    loss = (torch.linalg.vector_norm(errors, dim=1, keepdim=True).square() * weights).sum()
    return loss, errors.mul_(2.0 * weights)


def likelihood(
    predictions: torch.Tensor, inputs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """−Σ_users Σ_i x_i log softmax(P)_i over all of a user's items x, input and hidden.

    Source: Sachdeva, Dhaliwal, Wu, McAuley (NeurIPS 2022), section 4: the multinomial likelihood.

    Args, Returns: As for :func:`hidden_squares`.
    """
    targets = inputs + hidden
    log_p = F.log_softmax(predictions, dim=1)
    loss = -(targets * log_p).sum()
    return loss, log_p.exp() * targets.sum(1, keepdim=True) - targets


def dense(rows: sp.csr_array, like: torch.Tensor) -> torch.Tensor:
    """Converts CSR rows to a dense tensor with the dtype and device of ``like``."""
    return torch.from_numpy(rows.toarray()).to(like.device, like.dtype)
