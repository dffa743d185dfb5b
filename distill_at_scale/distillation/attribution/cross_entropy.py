"""Σ c logsumexp(E h) over positions, twice differentiable, without holding the scores of all positions at once.

All derivatives are computed in chunks of positions that stay in the cache, as in :mod:`models.training.cross_entropy`.
With S = h Eᵀ and P = softmax(S), the derivatives are

    by h: c P E        by E: (c P)ᵀ h        by c: logsumexp(S)

The second backward pass gets the adjoints ḣ and Ė of the first two. ⟨c P E, ḣ⟩ + ⟨(c P)ᵀ h, Ė⟩ = Σ c μ has, with
Ṡ = ḣ Eᵀ + h Ėᵀ, μ = Σ_j P Ṡ and Q = P ∘ (Ṡ − μ), the derivatives

    by h: c (Q E + P Ė)        by E: (c Q)ᵀ h + (c P)ᵀ ḣ        by c: μ
"""

from __future__ import annotations

from typing import Any

import torch

_CHUNK_BYTES = 4 << 20


def log_partition(states: torch.Tensor, items: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns Σ_t weights_t logsumexp(items · states_t), a scalar.

    The derivative by the weights has no derivative itself.

    Args:
        states: [m, dim].
        items: [n_items, dim].
        weights: [m].
    """
    return _LogPartition.apply(states, items, weights)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, items: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        by_states, by_items, logs = torch.empty_like(states), torch.zeros_like(items), torch.empty_like(weights)
        size = _chunk(items)
        for some, w, out, z in zip(*(part.split(size) for part in (states, weights, by_states, logs))):
            scores, total, log = _exponentials(some @ items.T)
            z.copy_(log)
            share = (w / total)[:, None]
            torch.mul(scores @ items, share, out=out)
            by_items.addmm_(scores.T, some * share)
        ctx.save_for_backward(states, items, weights, by_states, by_items, logs)
        return (weights * logs).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = ctx.saved_tensors[3:]
        if torch.is_grad_enabled():
            found = (*_Gradient.apply(*ctx.saved_tensors[:3], *found[:2]), found[2])
        return tuple(gradients[0] * part for part in found)


class _Gradient(torch.autograd.Function):
    """The derivatives by states and items, which are known already, with derivatives of their own."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        items: torch.Tensor,
        weights: torch.Tensor,
        by_states: torch.Tensor,
        by_items: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(states, items, weights)
        return by_states.clone(), by_items.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (states, items, weights), (states_bar, items_bar) = ctx.saved_tensors, gradients
        dim = items.shape[1]
        by_states, by_items = torch.empty_like(states), torch.zeros_like(items)
        by_weights = torch.empty_like(weights)
        # One product over twice the width is faster than two.
        turned = torch.cat((items_bar, items), 1)
        size = _chunk(items)
        parts = (states, states_bar, weights, by_states, by_weights)
        for some, bar, w, out, mean in zip(*(part.split(size) for part in parts)):
            p, total, _ = _exponentials(some @ items.T)
            p.div_(total[:, None])
            q = torch.cat((some, bar), 1) @ turned.T
            torch.linalg.vecdot(p, q, out=mean)
            q.sub_(mean[:, None]).mul_(p)
            weight = w[:, None]
            torch.mul(torch.addmm(p @ turned[:, :dim], q, items), weight, out=out)
            by_items.addmm_(q.T, some * weight).addmm_(p.T, bar * weight)
        return by_states, by_items, by_weights, None, None


def _chunk(items: torch.Tensor) -> int:
    return max(32, _CHUNK_BYTES // (items.element_size() * len(items)))


def _exponentials(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns exp(scores − max) in place, and of each row its sum and the logarithm of the sum of exp(scores)."""
    highest = scores.amax(dim=1)
    total = scores.sub_(highest[:, None]).exp_().sum(dim=1)
    return scores, total, total.log() + highest
