"""Cross-entropy over all items, without holding the scores of all items for all positions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Scores of this many bytes stay in the cache while they are computed, normalised and multiplied back.
_CHUNK_BYTES = 4 << 20


def linear_cross_entropy(states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Σ_t −log softmax(items · states_t)[targets_t], a scalar.

    Equal to ``F.cross_entropy(states @ items.T, targets, reduction="sum")``, in chunks of positions: memory does not
    grow with positions × items, and on a CPU, where memory traffic dominates, it takes about half the time. Gradients
    are computed with the value; there is only a first derivative.

    Args:
        states: [m, dim].
        items: [n_items, dim].
        targets: int64 [m].
    """
    return _LinearCrossEntropy.apply(states, items, targets)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(ctx: Any, states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        by_states, by_items = torch.empty_like(states), torch.zeros_like(items)
        loss = states.new_zeros((), dtype=torch.float32)
        size = max(32, _CHUNK_BYTES // (4 * len(items)))
        for some, wanted, gradient in zip(states.split(size), targets.split(size), by_states.split(size)):
            scores = (some @ items.T).float()
            right = scores.gather(1, wanted[:, None])[:, 0]
            highest = scores.amax(dim=1)
            scores.sub_(highest[:, None]).exp_()
            total = scores.sum(dim=1)
            loss += (total.log() + highest - right).sum()
            # p = scores / total: the division is applied to the smaller factor of each product.
            scores = scores.to(items.dtype)
            share = (1 / total).to(items.dtype)[:, None]
            torch.sub((scores @ items) * share, items[wanted], out=gradient)
            by_items.addmm_(scores.T, some * share)
            # In mixed precision the states may be of another type than the items.
            by_items.index_add_(0, wanted, some.to(items.dtype), alpha=-1)
        ctx.save_for_backward(by_states, by_items)
        return loss

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        by_states, by_items = ctx.saved_tensors
        return by_states * gradients[0].to(by_states.dtype), by_items * gradients[0].to(by_items.dtype), None


def sampled_cross_entropy(
    states: torch.Tensor,
    items: Callable[[torch.Tensor], torch.Tensor],
    targets: torch.Tensor,
    drawn: torch.Tensor,
    n_items: int,
) -> torch.Tensor:
    """Σ_t −log of the share of exp(items · states_t)[targets_t] among all items, of which a uniform sample stands for
    those that are not the target: its sum is scaled to their number, so that its expectation is theirs.

    Args:
        states: [m, dim].
        items: Function from items int64 [k] to their vectors [k, dim].
        targets: int64 [m].
        drawn: int64 [k], items drawn with replacement.
        n_items: Number of items.
    """
    right = (states * items(targets)).sum(dim=1, keepdim=True).float()
    scores = (states @ items(drawn).T).float()
    same = targets[:, None] == drawn
    others = (len(drawn) - same.sum(dim=1, keepdim=True)).clamp(min=1)
    scores = scores.masked_fill(same, -torch.inf) + ((n_items - 1) / others).log()
    return (torch.cat((right, scores), dim=1).logsumexp(dim=1) - right[:, 0]).sum()
