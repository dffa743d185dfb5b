"""The adjoint against autograd through the unrolled steps, in float64, and against torch's optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from adjoint_kit import N_TOKENS, loss, make_data, make_parameters, outer, tensors, unrolled

from distill_at_scale.data import hashing
from distill_at_scale.distillation.adjoint import SGD, Adam, EveryKth, EveryState, Keep, Snapshots, unroll
from distill_at_scale.errors import DasError

ADAM: dict[str, Any] = {"betas": (0.9, 0.99), "eps": 1e-8, "eps_root": 1e-12}
RULES: dict[str, dict[str, Any]] = {
    "adam": ADAM,
    "adam, L2": {**ADAM, "weight_decay": 0.03},
    "adamw": {**ADAM, "weight_decay": 0.03, "decoupled": True},
    "adamw, clipped": {**ADAM, "weight_decay": 0.03, "decoupled": True, "clip_norm": 0.4},
    "sgd": {"momentum": 0.8},
    "sgd, L2, clipped": {"momentum": 0.8, "weight_decay": 0.03, "clip_norm": 0.4},
}


def optimizer_of(rule: dict[str, Any]) -> Adam | SGD:
    return Adam(**rule) if "betas" in rule else SGD(**rule)


def rates_of(n_steps: int) -> torch.Tensor:
    return torch.linspace(0.02, 0.01, n_steps, dtype=torch.float64).requires_grad_()


def gradients(trained: Any, parameters: Any, data: Any, rates: torch.Tensor) -> list[torch.Tensor]:
    inputs = [*tensors(parameters), *tensors(data), rates]
    return list(torch.autograd.grad(outer(trained), inputs, materialize_grads=True))


@pytest.mark.parametrize("n_steps", [1, 5, 20, 60])
@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_autograd_through_all_steps(name: str, n_steps: int) -> None:
    parameters, data, rates, rule = make_parameters(), make_data(), rates_of(n_steps), RULES[name]
    slow_end = unrolled(parameters, data, rates, rule, seed=7)
    end, _ = unroll(loss, parameters, data, optimizer_of(rule), rates, seed=7)
    slow, fast = gradients(slow_end, parameters, data, rates), gradients(end, parameters, data, rates)
    assert sum(part.abs().max() > 1e-3 for part in slow) >= 5  # the data's among them
    for a, b in zip([*tensors(end), *fast], [*tensors(slow_end), *slow]):
        assert float((a - b).detach().abs().max()) < 1e-10 * max(1.0, float(b.detach().abs().max()))


@pytest.mark.parametrize(
    "keep", [EveryKth(1), EveryKth(4), EveryKth(50), Snapshots(1), Snapshots(2), Snapshots.logarithmic(23)], ids=str
)
def test_gradients_do_not_depend_on_what_is_kept(keep: Keep) -> None:
    parameters, data, rates = make_parameters(), make_data(), rates_of(23)
    ends = [unroll(loss, parameters, data, Adam(), rates, seed=3, keep=kept)[0] for kept in (EveryState(), keep)]
    for a, b in zip(*(gradients(end, parameters, data, rates) for end in ends)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_window_goes_on_where_the_last_one_ended() -> None:
    parameters, data, rates = make_parameters(), make_data(), rates_of(9)
    whole, last = unroll(loss, parameters, data, Adam(clip_norm=1.0), rates, seed=3)
    middle, state = unroll(loss, parameters, data, Adam(clip_norm=1.0), rates[:4], seed=3)
    end, found = unroll(loss, middle, data, Adam(clip_norm=1.0), rates[4:], seed=3, start=state)
    assert found.step == last.step == 9
    for a, b in zip([*tensors(end), *found.slots], [*tensors(whole), *last.slots]):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not any(slot.requires_grad for slot in found.slots)


@pytest.mark.parametrize(
    ("optimizer", "reference", "settings"),
    [
        (Adam(), torch.optim.Adam, {}),
        (Adam(weight_decay=0.1, betas=(0.5, 0.9)), torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.5, 0.9)}),
        (Adam(weight_decay=0.1, decoupled=True), torch.optim.AdamW, {"weight_decay": 0.1}),
        (SGD(momentum=0.7, weight_decay=0.1), torch.optim.SGD, {"weight_decay": 0.1, "momentum": 0.7}),
        (Adam(clip_norm=0.05), torch.optim.Adam, {}),
    ],
)
def test_steps_are_those_of_torch(optimizer: Adam | SGD, reference: Any, settings: dict[str, Any]) -> None:
    data = make_data()
    end, _ = unroll(loss, make_parameters(), data, optimizer, torch.full((6,), 0.03, dtype=torch.float64), seed=3)
    parameters = make_parameters()
    leaves = tensors(parameters)
    twin = reference(leaves, lr=0.03, **settings)
    for step in range(6):
        twin.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(hashing.stream("adjoint/step", 3, step))
            loss(parameters, data, step).backward()
        if optimizer.clip_norm is not None:
            assert torch.nn.utils.clip_grad_norm_(leaves, optimizer.clip_norm) > optimizer.clip_norm
        twin.step()
    for a, b in zip(tensors(end)[:-1], leaves):  # torch leaves alone what has no gradient
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_parameter_without_gradient_brings_no_nan() -> None:
    """v is 0 there, where the derivative of its root is infinite: autograd through the steps gives NaN."""
    parameters, data, rates = make_parameters(), make_data(), rates_of(3)
    end, _ = unroll(loss, parameters, data, Adam(), rates, seed=3)
    found = gradients(end, parameters, data, rates)
    assert all(bool(torch.isfinite(part).all()) for part in found)
    place = next(k for k, tensor in enumerate(tensors(parameters)) if tensor is parameters["unused"])
    torch.testing.assert_close(found[place], torch.ones(2).double())


def test_only_what_requires_a_gradient_is_differentiated() -> None:
    parameters, data = make_parameters(), make_data()
    data["tokens"][1] = data["tokens"][1].detach()
    end, _ = unroll(loss, parameters, data, Adam(), torch.full((3,), 0.03), seed=3)
    outer(end).backward()
    assert data["tokens"][0].grad.abs().max() > 0
    assert data["tokens"][1].grad is None


def test_what_no_step_used_has_no_gradient() -> None:
    data = make_data()
    end, _ = unroll(loss, make_parameters(), data, Adam(), torch.full((2,), 0.03), seed=3)
    outer(end).backward()
    assert [part.grad is None for part in data["tokens"]] == [False, False, True]


def test_gradients_go_on_into_what_the_data_were_made_of() -> None:
    latent = torch.zeros(4, 7, dtype=torch.float64, requires_grad=True)

    def data(moved: torch.Tensor) -> dict[str, Any]:
        made = make_data()
        return {**made, "tokens": [(part + moved).softmax(dim=1) for part in made["tokens"]]}

    def ending(moved: torch.Tensor) -> torch.Tensor:
        return outer(unroll(loss, make_parameters(), data(moved), Adam(), torch.full((4,), 0.03), seed=3)[0])

    (found,) = torch.autograd.grad(ending(latent), latent)
    change = torch.zeros_like(latent)
    change[2, 5] = 1e-5
    slow = (ending(latent + change) - ending(latent - change)) / 2e-5
    torch.testing.assert_close(found[2, 5], slow.detach(), rtol=1e-5, atol=1e-9)


@dataclass(frozen=True)
class Held:
    """Data as a dataclass."""

    logits: torch.Tensor
    shared: torch.Tensor


def test_a_tensor_at_several_places_of_the_data_is_one() -> None:
    made, shared = make_data(), torch.zeros(4, N_TOKENS, dtype=torch.float64, requires_grad=True)

    def moved(parameters: Any, batches: list[Held], step: int) -> torch.Tensor:
        tokens = [(part.logits + part.shared).softmax(dim=1) for part in batches]
        return loss(parameters, {**made, "tokens": tokens}, step)

    batches, rates = [Held(part, shared) for part in made["tokens"]], torch.full((4,), 0.03)
    found = torch.autograd.grad(outer(unroll(moved, make_parameters(), batches, Adam(), rates, seed=3)[0]), shared)[0]
    apart = [Held(part, shared.clone()) for part in made["tokens"]]
    end = outer(unroll(moved, make_parameters(), apart, Adam(), rates, seed=3)[0])
    torch.testing.assert_close(found, torch.stack(torch.autograd.grad(end, [part.shared for part in apart])).sum(0))
    assert found.abs().max() > 1e-3


def test_the_generator_is_left_as_it_was() -> None:
    before = torch.random.get_rng_state()
    end, _ = unroll(loss, make_parameters(), make_data(), Adam(), torch.full((2,), 0.03), seed=3)
    outer(end).backward()
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_has_no_second_derivative_is_named() -> None:
    def fused(parameters: torch.Tensor, data: torch.Tensor, step: int) -> torch.Tensor:
        q = (data @ parameters)[None, None]
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).square().sum()

    weights = torch.eye(4, requires_grad=True)
    end, _ = unroll(fused, weights, torch.ones(3, 4, requires_grad=True), Adam(), torch.full((2,), 0.01))
    with pytest.raises(DasError, match=r"cannot be differentiated twice \(.*scaled_dot_product.*replace that"):
        end.sum().backward()


def test_parameters_of_two_kinds_and_a_foreign_state_are_refused() -> None:
    mixed = {"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float64)}
    with pytest.raises(DasError, match=r"several kinds \(torch.float32 on cpu, torch.float64 on cpu"):
        unroll(lambda p, d, s: p["a"].sum(), mixed, None, Adam(), torch.ones(1))
    with pytest.raises(DasError, match="tree of floating-point tensors"):
        unroll(lambda p, d, s: p["a"].sum(), {"a": torch.arange(2)}, None, Adam(), torch.ones(1))
    _, state = unroll(lambda p, d, s: p.sum(), torch.zeros(2), None, SGD(), torch.ones(1))
    with pytest.raises(DasError, match="does not match the parameters and the optimizer"):
        unroll(lambda p, d, s: p.sum(), torch.zeros(2), None, Adam(), torch.ones(1), start=state)
