"""NeuMF: the contract, its score for a pair and for all items, and its loss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch_kit import TorchContract

from distill_at_scale.models import create_model
from distill_at_scale.models.neumf import NeuMF


class TestNeuMF(TorchContract):
    name = "neumf"
    settings: ClassVar = {
        "dim": 8,
        "epochs": 40,
        "batch_size": 64,
        "learning_rate": 0.02,
        "weight_decay": 0.001,
        "dropout": 0.2,
        "device": "cpu",
    }


def test_scores_of_pairs_and_of_all_items_are_the_formula() -> None:
    model = NeuMF(dim=4)
    torch.manual_seed(0)
    module = model.build(5, 6).double()
    users, items = module.tables()
    joined = torch.cat((module.from_user.weight, module.from_item.weight), dim=1)
    with torch.no_grad():
        every = module.all_items(users, items)
        some = module.pairs(users, items[:3].expand(5, 3, -1))
        for u in range(5):
            for i in range(6):
                gmf = users[u, :4] * items[i, :4]
                x = torch.relu(joined @ torch.cat((users[u, 4:], items[i, 4:])) + module.from_user.bias)
                x = torch.relu(module.net[1].weight @ x + module.net[1].bias)
                slow = torch.cat((gmf, x)) @ torch.cat((module.dot_weight, module.net_weight))
                assert every[u, i].item() == pytest.approx(slow.item(), rel=1e-9)
                if i < 3:
                    assert some[u, i].item() == pytest.approx(slow.item(), rel=1e-9)


def test_loss_is_the_log_loss_of_rows_and_unseen_draws() -> None:
    scores, seen = np.array([[1.0, -0.5, 2.0], [0.2, 0.1, -3.0]]), np.array([[False, True], [False, False]])
    slow = 0.0
    for row, hidden in zip(scores, seen):
        slow -= np.log(1 / (1 + np.exp(-row[0])))
        slow -= sum(np.log(1 - 1 / (1 + np.exp(-s))) for s, h in zip(row[1:], hidden) if not h)
    model = create_model("neumf")
    assert isinstance(model, NeuMF)
    found = model.ranking_loss(torch.from_numpy(scores), torch.from_numpy(seen))
    assert found.item() == pytest.approx(slow, rel=1e-6)
