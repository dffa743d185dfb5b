"""MVAE: the contract, and its loss against the definition."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch_kit import TorchContract

from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.mvae import hidden_negative_elbo, negative_elbo


class TestMVAE(TorchContract):
    name = "mvae"
    settings: ClassVar = {
        "hidden": 24,
        "latent": 8,
        "epochs": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
        "anneal_epochs": 20,
        "device": "cpu",
    }


class TestPaper(TorchContract):
    name = "mvae"
    settings: ClassVar = {
        "likelihood": "all",
        "hidden": 24,
        "decoder_hidden": 24,
        "latent": 8,
        "epochs": 40,
        "batch_size": 16,
        "dropout": 0.5,
        "beta": 0.2,
        "learning_rate": 0.01,
        "anneal_epochs": 20,
        "device": "cpu",
    }


def test_hidden_loss_asks_for_what_the_encoder_was_not_given() -> None:
    torch.manual_seed(0)
    x = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 1, 1]]).double()
    given = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 1, 1]]).double()
    logits, mean, log_variance = (torch.randn(3, n, dtype=torch.float64) for n in (5, 2, 2))
    slow = 0.0
    for u in range(3):
        open_items = [i for i in range(5) if not given[u, i]]
        hidden = [i for i in open_items if x[u, i]]
        total = sum(logits[u, i].exp() for i in open_items)
        slow -= sum((logits[u, i].exp() / total).log().item() for i in hidden) / max(len(hidden), 1)
        for k in range(2):
            q = torch.distributions.Normal(mean[u, k], (log_variance[u, k] / 2).exp())
            p = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
            slow += 0.3 * torch.distributions.kl_divergence(q, p).item()
    assert hidden_negative_elbo(x, given, logits, mean, log_variance, 0.3).item() == pytest.approx(slow, rel=1e-6)


def test_hiding_nothing_is_refused() -> None:
    with pytest.raises(DasError, match="dropout=0 hides nothing to learn from"):
        create_model("mvae", {"dropout": 0})


def test_loss_is_the_negative_elbo() -> None:
    """The divergence by torch's own normal distributions, the likelihood item by item."""
    torch.manual_seed(0)
    x = (torch.rand(3, 5, dtype=torch.float64) < 0.5).double()
    logits, mean, log_variance = (torch.randn(3, n, dtype=torch.float64) for n in (5, 2, 2))
    slow = 0.0
    for u in range(3):
        probabilities = logits[u].exp() / logits[u].exp().sum()
        slow -= sum(probabilities[i].log().item() for i in range(5) if x[u, i])
        for k in range(2):
            q = torch.distributions.Normal(mean[u, k], (log_variance[u, k] / 2).exp())
            p = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
            slow += 0.3 * torch.distributions.kl_divergence(q, p).item()
    assert negative_elbo(x, logits, mean, log_variance, 0.3).item() == pytest.approx(slow, rel=1e-6)
