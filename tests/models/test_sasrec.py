"""SASRec: the contract, what a place can see, and that it can be differentiated twice."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import make_rows
from torch_kit import SequenceContract

from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.sasrec import Attention, AttentionEncoder, SASRecConfig, visible


class TestSASRec(SequenceContract):
    name = "sasrec"
    settings: ClassVar = {
        "dim": 16,
        "length": 8,
        "blocks": 1,
        "heads": 2,
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 0.01,
        "dropout": 0.1,
        "device": "cpu",
    }


def encoder() -> AttentionEncoder:
    torch.manual_seed(0)
    return AttentionEncoder(9, SASRecConfig(dim=8, length=6, blocks=2, heads=2, dropout=0.0)).double().eval()


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(dim=4, heads=2, dropout=0.0).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    allowed = visible(torch.tensor([[False, True, True]]))
    assert allowed[0].tolist() == [[True, False, False], [False, True, False], [False, True, True]]
    found = attention(x, x, allowed)[0]
    q, k, v = attention.query(x)[0], attention.key(x)[0], attention.value(x)[0]
    for head in (slice(0, 2), slice(2, 4)):
        for t in range(3):
            scores = {s: (q[t, head] @ k[s, head]).item() / 2**0.5 for s in range(3) if allowed[0, t, s]}
            total = sum(np.exp(s) for s in scores.values())
            slow = sum(np.exp(score) / total * v[s, head] for s, score in scores.items())
            torch.testing.assert_close(found[t, head], slow)
    assert attention.key.bias is None


def test_a_state_depends_on_its_past_alone() -> None:
    module = encoder()
    items = torch.tensor([[9, 0, 1, 2, 3, 4]])
    states = module(items)
    for later in range(2, 6):
        changed = items.clone()
        changed[0, later:] = 7
        torch.testing.assert_close(module(changed)[0, :later], states[0, :later])
        assert (module(changed)[0, later] - states[0, later]).abs().max() > 1e-3


def test_padding_changes_nothing() -> None:
    module = encoder()
    torch.testing.assert_close(module(torch.tensor([[9, 9, 3, 4]]))[0, 2:], module(torch.tensor([[3, 4]]))[0])


def test_it_can_be_differentiated_twice() -> None:
    module = encoder()
    items = torch.tensor([[9, 0, 1, 2], [4, 5, 6, 7]])
    parameters = list(module.parameters())

    def gradient() -> torch.Tensor:
        scores = module(items)[:, -1] @ module.items.vectors(0, 9).T
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([3, 8]))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])

    direction = torch.randn_like(gradient())
    product = torch.autograd.grad(gradient() @ direction, parameters)
    step, before = 1e-6, [p.detach().clone() for p in parameters]
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, start, part in zip(parameters, before, direction.split([p.numel() for p in parameters])):
                p.copy_(start + sign * step * part.view_as(p))
        ends.append(gradient().detach())
    slow = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(torch.cat([p.flatten() for p in product]), slow, rtol=1e-4, atol=1e-6)


def test_only_the_last_items_are_read() -> None:
    rows = make_rows([[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]], n_items=6)
    model = create_model("sasrec", {"dim": 8, "length": 3, "epochs": 1, "device": "cpu"}).fit(rows)
    scores = model.score(rows)
    np.testing.assert_array_equal(scores[0], scores[1])


def test_heads_must_divide_dim_and_sequences_need_two_items() -> None:
    with pytest.raises(DasError, match="heads=3 must divide dim=8"):
        create_model("sasrec", {"dim": 8, "heads": 3})
    with pytest.raises(DasError, match="sasrec: no user has enough train rows to learn from; a sequence needs two"):
        create_model("sasrec", {"dim": 8, "device": "cpu"}).fit(make_rows([[0], [1]], n_items=2))
