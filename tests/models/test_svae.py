"""SVAE: the contract, its targets, and its loss against the definition."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch_kit import SequenceContract

from distill_at_scale.models.svae import following, negative_elbo


class TestSVAE(SequenceContract):
    name = "svae"
    settings: ClassVar = {
        "dim": 16,
        "hidden": 16,
        "latent": 8,
        "length": 8,
        "ahead": 1,
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.02,
        "dropout": 0.1,
        "beta": 0.05,
        "device": "cpu",
    }


def test_targets_are_the_next_items() -> None:
    items = torch.tensor([[9, 1, 2, 3], [4, 5, 6, 7]])  # 9 is the padding
    expected = [[[1, 2], [2, 3], [3, 9]], [[5, 6], [6, 7], [7, 9]]]
    assert following(items, 2, 9).tolist() == expected


def test_loss_is_the_negative_elbo() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([[1, 4], [2, 5], [0, 0]])  # 5: there is none
    logits, mean, log_variance = (torch.randn(3, n, dtype=torch.float64) for n in (5, 2, 2))
    slow = 0.0
    for t in range(3):
        probabilities = logits[t].exp() / logits[t].exp().sum()
        real = [i for i in targets[t].tolist() if i < 5]
        slow -= sum(probabilities[i].log().item() for i in real) / len(real)
        for k in range(2):
            q = torch.distributions.Normal(mean[t, k], (log_variance[t, k] / 2).exp())
            p = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
            slow += 0.3 * torch.distributions.kl_divergence(q, p).item()
    assert negative_elbo(targets, logits, mean, log_variance, 0.3).item() == pytest.approx(slow, rel=1e-6)
