"""Narrow factors fitted to distributions."""

from __future__ import annotations

import math

import pytest
import torch

from distill_at_scale.distillation.farzi import FarziConfig, LatentSequences, dequantise, quantise
from distill_at_scale.distillation.farzi.initialisation import _factorised
from distill_at_scale.distillation.farzi.narrow_factors import divergence, fitted_factors, noise_share
from distill_at_scale.errors import DasError

TOKENS, ITEMS, RANK, WIDTH = 200, 150, 8, 5


@pytest.fixture(scope="module")
def exact() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(TOKENS, RANK, generator=generator), torch.randn(RANK, ITEMS, generator=generator)
    return drawn[0] * torch.linspace(1.5, 0.5, RANK), drawn[1]


def twin(logits: torch.Tensor, exact: torch.Tensor) -> float:
    """KL(softmax(exact) ‖ softmax(logits)), mean over the rows, item by item."""
    total = 0.0
    for row, wanted in zip(logits.double().tolist(), exact.double().tolist()):
        shares, others = ([math.exp(x - max(values)) for x in values] for values in (wanted, row))
        p, q = ([x / sum(values) for x in values] for values in (shares, others))
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    return total / len(logits)


def entropy(exact: torch.Tensor) -> float:
    shares = exact.double().softmax(dim=1)
    return float(-(shares * shares.log()).sum(dim=1).mean())


def test_the_divergence_is_that_of_its_definition(exact: tuple[torch.Tensor, torch.Tensor]) -> None:
    wanted = exact[0].double() @ exact[1].double()
    logits = (wanted + torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    assert divergence(logits, wanted).item() - entropy(wanted) == pytest.approx(twin(logits, wanted), abs=1e-12)
    few = logits.detach()[:2, :20].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: divergence(x, wanted[:2, :20]), (few,))


def test_fitted_factors_are_nearer_to_the_distributions_than_those_of_the_svd(
    exact: tuple[torch.Tensor, torch.Tensor],
) -> None:
    start = _factorised(*exact, WIDTH, 0)
    found = fitted_factors(*start, *exact, passes=120, bits=8.0, seed=0)
    before, after = (twin(d @ m, exact[0] @ exact[1]) for d, m in (start, found))
    assert after < 0.6 * before
    again = fitted_factors(*start, *exact, passes=120, bits=8.0, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(found, again))


def test_the_noise_of_stored_numbers_is_the_share_of_the_logits_that_is_said() -> None:
    generator = torch.Generator().manual_seed(2)
    latent, decoder = torch.randn(400, 6, generator=generator), torch.randn(6, 500, generator=generator)
    for bits in (2.0, 3.0, 4.0):
        noise = stored(latent, decoder, bits) - latent @ decoder
        share = float(noise.square().mean() / (latent @ decoder).square().mean())
        assert share == pytest.approx(noise_share(bits), rel=0.15)


@pytest.mark.parametrize("bits", [2.0, 2.5, 3.0])
def test_factors_that_are_fitted_for_few_bits_lose_less_when_stored(
    exact: tuple[torch.Tensor, torch.Tensor], bits: float
) -> None:
    start, wanted = _factorised(*exact, WIDTH, 0), exact[0] @ exact[1]

    def lost(of_bits: float) -> float:
        return twin(stored(*fitted_factors(*start, *exact, passes=120, bits=of_bits, seed=0), bits), wanted)

    assert lost(bits) < lost(8.0)


def stored(latent: torch.Tensor, decoder: torch.Tensor, bits: float) -> torch.Tensor:
    """The logits after the factors were stored as the targets of sequences of 5."""
    targets = latent.reshape(-1, 5, latent.shape[1])
    items = torch.zeros(targets.shape[:2], dtype=torch.int64)
    back = dequantise(quantise(LatentSequences(items, decoder, targets, bits=bits)))
    assert back.targets is not None
    return back.targets.flatten(0, 1) @ back.decoder


@pytest.mark.parametrize("more", [{"start": "random"}, {"items": "codes"}])
def test_without_predictions_over_items_nothing_is_fitted(more: dict[str, str]) -> None:
    with pytest.raises((DasError, ValueError), match="leave fitted out"):
        FarziConfig.model_validate({"fitted": 10, **more})
