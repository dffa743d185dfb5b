"""Students: with one-hot tokens they are the models; with soft ones they can be differentiated twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.students import Student, create_student
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model

N_ITEMS = 9
SETTINGS: dict[str, dict[str, Any]] = {
    "sasrec": {"dim": 8, "blocks": 2, "heads": 2, "length": 6, "dropout": 0.0},
    "gru4rec": {"dim": 8, "hidden": 5, "length": 6, "dropout": 0.0},
}
both = pytest.mark.parametrize("model", SETTINGS)


def student_of(model: str, **changed: Any) -> Student:
    return create_student(model, N_ITEMS, {**SETTINGS[model], **changed})


def parameters_of(student: Student) -> dict[str, torch.Tensor]:
    """Drawn and moved, so that biases and norms are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    drawn = {name: value.double() for name, value in student.draw(seed=3).items()}
    moved = {k: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in drawn.items()}
    moved["items.weight"][-1] = 0.0
    return moved


def module_of(model: str, parameters: dict[str, torch.Tensor]) -> Any:
    recommender: Any = create_model(model, {**SETTINGS[model], "device": "cpu"})
    module = recommender.build(0, N_ITEMS).double()
    module.load_state_dict(parameters)
    return module.eval()


def one_hot(items: torch.Tensor) -> torch.Tensor:
    return F.one_hot(items, N_ITEMS).double()


@both
def test_with_items_it_is_the_model(model: str) -> None:
    student = student_of(model)
    parameters = parameters_of(student)
    items = torch.tensor([[9, 9, 4, 0, 4], [1, 2, 3, 8, 0], [9, 9, 9, 9, 9]])
    module = module_of(model, parameters)
    real = items < N_ITEMS
    states = student.states(parameters, items)
    torch.testing.assert_close(states[real], module(items)[real], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(states @ student.table(parameters).T, states @ module.items.vectors(0, N_ITEMS).T)


@both
def test_one_hot_tokens_are_items(model: str) -> None:
    student = student_of(model)
    parameters = parameters_of(student)
    items = torch.tensor([[6, 1, 4, 0], [1, 2, 3, 8]])
    soft, hard = student.states(parameters, one_hot(items)), student.states(parameters, items)
    torch.testing.assert_close(soft, hard, rtol=1e-12, atol=1e-12)
    targets = torch.tensor([[1, 4, 0, 3], [2, 3, 8, 8]])
    slow = F.cross_entropy((hard @ student.table(parameters).T).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(student.soft_loss(parameters, one_hot(items), one_hot(targets)), slow)


@both
def test_soft_targets_give_the_cross_entropy(model: str) -> None:
    student = student_of(model)
    parameters = parameters_of(student)
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(2, 3, N_ITEMS, generator=generator, dtype=torch.float64).softmax(2) for _ in range(2))
    logits = student.states(parameters, x) @ student.table(parameters).T
    torch.testing.assert_close(student.soft_loss(parameters, x, y), -(y * logits.log_softmax(2)).sum(2).mean())


@both
def test_it_can_be_differentiated_twice(model: str) -> None:
    student = student_of(model)
    parameters = {name: value.requires_grad_() for name, value in parameters_of(student).items()}
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(2, 3, N_ITEMS, generator=generator, dtype=torch.float64).softmax(2) for _ in range(2))
    names, values = list(parameters), list(parameters.values())

    def loss(tokens: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return student.soft_loss(dict(zip(names, others)), tokens, y)

    # Three of them suffice: a product with every direction takes long.
    few = [k for k, value in enumerate(values) if value.numel() <= 2 * 8][:3]
    fixed = [value.detach() for value in values]

    def of_few(tokens: torch.Tensor, *some: torch.Tensor) -> torch.Tensor:
        others = list(fixed)
        for k, value in zip(few, some):
            others[k] = value
        return loss(tokens, *others)

    inputs = (x.requires_grad_(), *(values[k] for k in few))
    assert torch.autograd.gradgradcheck(of_few, inputs, atol=1e-6, fast_mode=True)


@both
def test_dropout_is_on_in_training_alone(model: str) -> None:
    student = student_of(model, dropout=0.5)
    parameters = parameters_of(student)
    items = torch.tensor([[6, 1, 4, 0]])
    torch.manual_seed(0)
    first, second = (student.states(parameters, items, training=True) for _ in range(2))
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(student.states(parameters, items), student_of(model).states(parameters, items))


@both
def test_histories_are_scored_as_the_model_does(model: str) -> None:
    student = student_of(model)
    parameters = parameters_of(student)
    offsets = np.array([0, 3, 3, 11])
    rows = Interactions(np.arange(3), offsets, np.array([1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7], np.int32), N_ITEMS)
    found = student.item_scores(parameters, rows)
    module = module_of(model, parameters)
    for k, history in enumerate([[1, 2, 3], None, [2, 3, 4, 5, 6, 7]]):
        if history is not None:
            slow = (module(torch.tensor([history]))[:, -1] @ module.items.vectors(0, N_ITEMS).T)[0]
            np.testing.assert_allclose(found[k], slow.detach().numpy(), rtol=1e-5)


def test_the_key_has_no_bias() -> None:
    assert not any(name.endswith("key.bias") for name in student_of("sasrec").draw(0))


def test_what_cannot_be_a_student_is_refused() -> None:
    with pytest.raises(DasError, match=r"ease cannot be a student: .* choose sasrec or gru4rec"):
        create_student("ease", N_ITEMS)
    with pytest.raises(DasError, match="heads=3 must divide dim=8"):
        student_of("sasrec", heads=3)
    student = student_of("sasrec")
    with pytest.raises(DasError, match=r"7 tokens is longer than the student's length=6"):
        student.states(student.draw(0), torch.full((1, 7, N_ITEMS), 1 / N_ITEMS))
