"""What the models of sequences share: the loss over all items in chunks, and sequences taken by their length."""

from __future__ import annotations

import math

import pytest
import torch

from distill_at_scale.models.training import cross_entropy
from distill_at_scale.models.training.cross_entropy import linear_cross_entropy
from distill_at_scale.models.training.sequential import by_length


def slow_cross_entropy(states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Σ_t log Σ_i exp(h_t · e_i) − h_t · e_(target), place by place."""
    total = states.new_zeros(())
    for state, target in zip(states, targets):
        scores = torch.stack([state @ item for item in items])
        total = total + sum(score.exp() for score in scores).log() - scores[target]
    return total


@pytest.mark.parametrize("chunk_bytes", [1, 4 << 20])
def test_cross_entropy_and_its_gradients_are_the_formulas(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_BYTES", chunk_bytes)  # 32 places a chunk, or all
    torch.manual_seed(3)
    states = torch.randn(70, 5, dtype=torch.float64, requires_grad=True)
    items = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (70,))
    slow = slow_cross_entropy(states, items, targets)
    expected = torch.autograd.grad(2.0 * slow, (states, items))
    loss = linear_cross_entropy(states, items, targets)
    # Scores are float32 from here on, whatever comes in.
    assert math.isclose(loss.item(), slow.item(), rel_tol=1e-6)
    for found, gradient in zip(torch.autograd.grad(2.0 * loss, (states, items)), expected):
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-5)


def test_cross_entropy_of_large_scores_is_finite() -> None:
    states, items = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    loss = linear_cross_entropy(states, items, torch.tensor([1]))
    assert loss.item() == 2000.0
    assert torch.autograd.grad(loss, states)[0].tolist() == [[2.0]]


@pytest.mark.parametrize("width", [1, 7, 8, 20, 51])
def test_every_sequence_comes_once_without_its_padding(width: int) -> None:
    torch.manual_seed(width)
    lengths = torch.randint(0, width + 1, (40,))
    items = torch.randint(9, (40, width))
    items[torch.arange(width) < width - lengths[:, None]] = 9
    seen = []
    for chosen, some in by_length(items, 9):
        assert some.shape[1] <= max(8, 2 * int(lengths[chosen].max()), 1)
        for row, found in zip(chosen.tolist(), some):
            assert found.tolist() == items[row, width - some.shape[1] :].tolist()
            assert int((found != 9).sum()) == lengths[row]
            seen.append(row)
    assert sorted(seen) == list(range(40))
