"""GRU4Rec: the contract, and that padding changes nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch_kit import SequenceContract

from distill_at_scale.models.gru4rec import Recurrence


class TestGRU4Rec(SequenceContract):
    name = "gru4rec"
    settings: ClassVar = {
        "dim": 16,
        "hidden": 16,
        "length": 8,
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.02,
        "dropout": 0.1,
        "device": "cpu",
    }


def test_states_are_those_of_the_sequence_without_its_padding() -> None:
    torch.manual_seed(0)
    recurrence = Recurrence(3, 5)
    x = torch.randn(4, 6, 3)
    real = torch.tensor([[False] * k + [True] * (6 - k) for k in (0, 2, 5, 6)])
    states = recurrence(x, real)
    for row, padding in enumerate((0, 2, 5)):
        alone, _ = recurrence.gru(x[row : row + 1, padding:])
        torch.testing.assert_close(states[row, padding:], alone[0])
        assert not states[row, :padding].any()
    assert not states[3].any()
