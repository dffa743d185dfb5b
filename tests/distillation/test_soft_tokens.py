"""Soft tokens and scores in chunks: the dense ones to the last digits, with first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.adjoint import Adam, unroll
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.soft_tokens import SoftTokens, log_partition
from distill_at_scale.distillation.students import create_student

N_ITEMS, DIM = 23, 4
SETTINGS = {"dim": DIM, "length": 6, "dropout": 0.3}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five places at a time, so that there are several chunks and the last is not full."""
    monkeypatch.setattr(soft_tokens, "_LEAST_PLACES", 5)
    monkeypatch.setattr(soft_tokens, "_CHUNK_BYTES", 1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def assert_alike(slow: Callable, fast: Callable, inputs: list[torch.Tensor]) -> None:
    """Values, first derivatives, and the derivatives of a product with the first ones."""
    found = []
    for function in (slow, fast):
        value = function(*inputs)
        bar = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).view(value.shape).requires_grad_()
        first = torch.autograd.grad(value, inputs, bar, create_graph=True)
        directions = [drawn(*part.shape, seed=7 + k) for k, part in enumerate(first)]
        second = torch.autograd.grad(first, [*inputs, bar], directions)
        found.append([value, *first, *second, *torch.autograd.grad(function(*inputs), inputs, bar)])
    assert all(part.abs().max() > 1e-3 for part in found[0])
    for a, b in zip(*found):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


def test_the_partition_is_that_of_all_scores() -> None:
    def dense(states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return (states @ table.T).logsumexp(dim=1).sum()

    assert_alike(dense, log_partition, [drawn(13, DIM), drawn(N_ITEMS, DIM, seed=1)])
    # Far from 0, where an exponential alone would overflow.
    far = [(1e3 * drawn(13, DIM)).detach(), drawn(N_ITEMS, DIM, seed=1).detach()]
    torch.testing.assert_close(log_partition(*far), dense(*far))


def test_expected_vectors_are_those_of_dense_tokens() -> None:
    def chunked(latent: torch.Tensor, decoder: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return SoftTokens(latent, decoder) @ table

    def dense(latent: torch.Tensor, decoder: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return (latent @ decoder).softmax(dim=2) @ table

    assert_alike(dense, chunked, [drawn(3, 4, 2), drawn(2, N_ITEMS, seed=1), drawn(N_ITEMS, DIM, seed=2)])


@pytest.mark.parametrize("fixed", range(3))
def test_one_part_may_need_no_gradient(fixed: int) -> None:
    shapes = [(3, 4, 2), (2, N_ITEMS), (N_ITEMS, DIM)]
    inputs = [drawn(*shape, seed=k) for k, shape in enumerate(shapes)]
    inputs[fixed].requires_grad_(False)
    moving = [x for x in inputs if x.requires_grad]
    tokens, table = SoftTokens(inputs[0], inputs[1]), inputs[2]
    found = []
    for value in (tokens @ table, tokens[:] @ table):
        first = torch.autograd.grad(value.sin().sum(), moving, create_graph=True)
        # Of one first derivative alone: the others' bars are absent.
        found.append([*first, *torch.autograd.grad(first[-1].square().sum(), moving)])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_training_on_held_tokens_is_one_on_dense_ones(
    model: str, coupled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end, and the gradients of D, M and the targets' latents through five steps of it."""
    student = create_student(model, N_ITEMS, SETTINGS)
    targets = None if coupled else drawn(4, 5, 3, seed=2)
    latent = LatentSequences(drawn(4, 5, 3), drawn(3, N_ITEMS, seed=1), targets, temperature=0.7)
    parameters = {name: value.double() for name, value in student.draw(0).items()}
    found = []
    for above in (N_ITEMS, N_ITEMS - 1):
        monkeypatch.setattr(soft_tokens, "CHUNKED_ABOVE", above)
        data = [latent.tokens(torch.tensor(rows)) for rows in ([0, 2], [1, 3])]
        assert isinstance(data[0][0], SoftTokens) == (above < N_ITEMS)

        def loss(values: dict, batches: list, step: int) -> torch.Tensor:
            return student.soft_loss(values, *batches[step % 2])

        rates = torch.full((5,), 0.02, dtype=torch.float64)
        end, _ = unroll(loss, parameters, data, Adam(eps_root=1e-12), rates, seed=3)
        aim = sum(value.sin().sum() for value in end.values())
        found.append([*end.values(), *torch.autograd.grad(aim, latent.tensors)])
    assert all(part.abs().max() > 1e-6 for part in found[0][-len(latent.tensors) :])
    for a, b in zip(*found):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)
