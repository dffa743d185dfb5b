"""Factors of soft tokens that are narrower than the logits they stand for, fitted to the distributions themselves.

The best factors of the logits, those of an SVD, spend their width on all items alike. What counts is the distribution:
here D and M minimise, from the SVD on, the mean over the tokens of

    KL(softmax(A B) ‖ softmax(D M)) + ½ ρ mean_j (z_j − mean z)²,   z = D M

The second term is what storing them in few bits adds to the first, to second order: numbers of b bits on average, with
more for larger ones (:mod:`levels`), put noise on the logits whose variance is ρ times the logits' own, with
ρ = 2 · (π e / 6) · 4^−b for two factors and uniform steps. Logits that are smaller suffer less from it.
"""

from __future__ import annotations

import math

import torch

from distill_at_scale.data import hashing

_RATE, _LEAST_RATE = 0.1, 0.02
"""Adam's learning rate, as a share of a factor's standard deviation, and its share at the end, to which it falls
linearly."""
_BETAS = (0.9, 0.99)
_TOKENS, _SCORES = 512, 1 << 23
"""Tokens of a step, of which fewer are taken where their scores of all items would be more than that."""
_LEAST_TOKENS = 16


def fitted_factors(
    latent: torch.Tensor,
    decoder: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    passes: int,
    bits: float,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns D [n, d] and M [d, V], fitted to the distributions softmax(A B).

    Args:
        latent, decoder: D and M from which it starts.
        left, right: A [n, r] and B [r, V].
        passes: Number of passes over the tokens.
        bits: Mean bits of a stored number, b.
        seed: Seed of the order of the tokens.
    """
    generator = torch.Generator().manual_seed(hashing.stream("farzi/narrow factors", seed))
    d, m = (factor.detach().clone().requires_grad_() for factor in (latent, decoder))
    rates = [_RATE * float(factor.detach().std()) for factor in (d, m)]
    optimizer = torch.optim.Adam([{"params": [d]}, {"params": [m]}], betas=_BETAS)
    batch = _tokens(decoder.shape[1])
    total, done = passes * -(-len(latent) // batch), 0
    for _ in range(passes):
        for rows in torch.randperm(len(latent), generator=generator).to(latent.device).split(batch):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * max(_LEAST_RATE, 1 - done / total)
            logits = d[rows] @ m
            loss = divergence(logits, left[rows] @ right) + 0.5 * noise_share(bits) * logits.var(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return d.detach(), m.detach()


def divergence(logits: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Returns KL(softmax(exact) ‖ softmax(logits)), mean over the rows, plus the mean entropy of the first."""
    return (logits.logsumexp(dim=1) - (exact.softmax(dim=1) * logits).sum(dim=1)).mean()


def noise_share(bits: float) -> float:
    """Returns ρ, the variance of the logits' noise as a share of their own, with this many bits a number."""
    return 2 * (math.pi * math.e / 6) * 4.0**-bits


def step_numbers(n_items: int) -> int:
    """Returns the number of values in memory at the peak of a step: scores, distributions and their gradients."""
    return 6 * _tokens(n_items) * n_items


def _tokens(n_items: int) -> int:
    return max(_LEAST_TOKENS, min(_TOKENS, _SCORES // n_items))
