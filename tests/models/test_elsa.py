"""ELSA: the contract, and its loss, gradient and scores against dense computations."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from crew_kit import random_rows
from torch_kit import TorchContract

from distill_at_scale.models import create_model
from distill_at_scale.models.elsa import reconstruction_loss
from distill_at_scale.models.training.batches import set_batch


class TestElsa(TorchContract):
    name = "elsa"
    settings: ClassVar = {"dim": 8, "epochs": 30, "batch_size": 16, "learning_rate": 0.05, "device": "cpu"}


def dense_loss(a: torch.Tensor, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Σ_u w_u ‖x̂/‖x̂‖ − x/‖x‖‖² with x̂ = x (A Aᵀ − I), A of unit rows, as it is written."""
    unit = a / a.norm(dim=1, keepdim=True)
    made = x @ (unit @ unit.T - torch.eye(len(a), dtype=a.dtype))
    errors = made / made.norm(dim=1, keepdim=True) - x / x.norm(dim=1, keepdim=True)
    return (weights[:, None] * errors.square()).sum()


@pytest.mark.parametrize("weights", [None, torch.arange(1.0, 10.0, dtype=torch.float64)])
@pytest.mark.parametrize("dim", [5, 12])
def test_loss_and_gradient_equal_the_dense_ones(dim: int, weights: torch.Tensor | None) -> None:
    """Of a batch with more users than dimensions, and with fewer."""
    rows = random_rows(9, 14, seed=0)
    batch = set_batch(rows)
    a = torch.randn(14, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fast, slow = a.clone().requires_grad_(), a.clone().requires_grad_()
    loss = reconstruction_loss(fast, batch["owner"], batch["item"], 9, weights)
    loss.backward()
    x = torch.zeros(9, 14, dtype=torch.float64)
    x[batch["owner"], batch["item"]] = 1.0
    expected = dense_loss(slow, x, torch.ones(9, dtype=torch.float64) if weights is None else weights)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert fast.grad is not None
    assert slow.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-8, atol=1e-10)


def test_scores_are_the_formula_with_rows_of_length_1() -> None:
    rows = random_rows(30, 12, seed=1, least=0)
    model = create_model("elsa", {"dim": 4, "epochs": 2, "device": "cpu"}).fit(rows)
    a = model._weights()["items"].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1.0, atol=1e-6)
    x = rows.to_csr(dtype=np.float64).toarray()
    np.testing.assert_allclose(model.score(rows), x @ (a @ a.T - np.eye(12)), atol=1e-5)
