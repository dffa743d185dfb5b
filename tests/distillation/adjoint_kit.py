"""A small model with dropout, and training it through autograd, written from the optimizers' definitions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from distill_at_scale.data import hashing

N_TOKENS, WIDTH, N_BATCHES = 7, 5, 3


def make_parameters(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """A tree with a list in it; ``unused`` gets no gradient ever."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return (0.3 * torch.randn(*shape, generator=generator, dtype=dtype)).requires_grad_()

    layers = [(draw(WIDTH, WIDTH), draw(WIDTH)), (draw(WIDTH, WIDTH), draw(WIDTH))]
    return {"table": draw(N_TOKENS, WIDTH), "layers": layers, "unused": draw(2)}


def make_data(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Soft tokens, cut into batches, beside data that take no gradient."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(N_BATCHES, 4, N_TOKENS, generator=generator, dtype=dtype)
    tokens = [(2 * part).softmax(dim=1).requires_grad_() for part in logits]
    return {"tokens": tokens, "targets": torch.randint(N_TOKENS, (N_BATCHES, 4), generator=generator), "scale": 1.5}


def loss(parameters: dict[str, Any], data: dict[str, Any], step: int) -> torch.Tensor:
    """Cross-entropy of a net with dropout, soft tokens in and hard tokens out."""
    x = data["tokens"][step % N_BATCHES] @ parameters["table"]
    for weight, bias in parameters["layers"]:
        x = x + F.dropout(torch.tanh(x @ weight + bias), 0.3)
    return data["scale"] * F.cross_entropy(x @ parameters["table"].T, data["targets"][step % N_BATCHES])


def outer(parameters: dict[str, Any]) -> torch.Tensor:
    """What is asked of the trained parameters."""
    (first, _), (_, second) = parameters["layers"]
    return (parameters["table"].sin() * first[:1]).sum() + second.pow(3).sum() + parameters["unused"].sum()


def tensors(tree: Any) -> list[torch.Tensor]:
    """All tensors of a tree that take gradients."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in tensors(value)]
    if isinstance(tree, (list, tuple)):
        return [leaf for value in tree for leaf in tensors(value)]
    return [tree] if isinstance(tree, torch.Tensor) and tree.is_floating_point() else []


def with_tensors(tree: Any, others: list[torch.Tensor]) -> Any:
    """The same tree, its tensors taken from the front of ``others``."""
    if isinstance(tree, dict):
        return {key: with_tensors(value, others) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(with_tensors(value, others) for value in tree)
    return others.pop(0)


def unrolled(parameters: Any, data: Any, rates: torch.Tensor, rule: dict[str, Any], seed: int) -> Any:
    """The slow twin: every step stays in autograd's graph, parameter by parameter, as the papers write it."""
    values = tensors(parameters)
    first = [torch.zeros_like(value) for value in values]
    second = [torch.zeros_like(value) for value in values]
    decay, clip = rule.get("weight_decay", 0.0), rule.get("clip_norm")
    for step, rate in enumerate(rates):
        with torch.random.fork_rng():
            torch.manual_seed(hashing.stream("adjoint/step", seed, step))
            value = loss(with_tensors(parameters, list(values)), data, step)
        gradients = list(torch.autograd.grad(value, values, create_graph=True, materialize_grads=True))
        if clip is not None:
            norm = torch.cat([g.flatten() for g in gradients]).norm()
            gradients = [g * (clip / (norm + 1e-6)).clamp(max=1.0) for g in gradients]
        if not rule.get("decoupled"):
            gradients = [g + decay * theta for g, theta in zip(gradients, values)]
        else:
            values = [theta - rate * decay * theta for theta in values]
        if "betas" in rule:
            beta1, beta2 = rule["betas"]
            first = [beta1 * m + (1 - beta1) * g for m, g in zip(first, gradients)]
            second = [beta2 * v + (1 - beta2) * g * g for v, g in zip(second, gradients)]
            t = step + 1
            steps = [
                (m / (1 - beta1**t)) / ((v / (1 - beta2**t) + rule["eps_root"]).sqrt() + rule["eps"])
                for m, v in zip(first, second)
            ]
        else:
            first = [rule["momentum"] * b + g for b, g in zip(first, gradients)]
            steps = first
        values = [theta - rate * direction for theta, direction in zip(values, steps)]
    return with_tensors(parameters, list(values))
