"""Farzi over books of shared vectors: tokens, losses and loop against slow twins over all items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, SETTINGS, make_farzi, make_rows
from test_farzi import numbers, together
from torch.utils._python_dispatch import TorchDispatchMode

from distill_at_scale.distillation.books import Books
from distill_at_scale.distillation.farzi import (
    FarziConfig,
    InnerLoop,
    LatentSequences,
    OuterBatches,
    Teacher,
    dequantise,
    fit_sequences,
    initial_sequences,
    outer_loss,
    quantise,
    real_sequences,
    run_inner_loop,
    train_student,
)
from distill_at_scale.distillation.students import Parameters, Student, create_student
from distill_at_scale.errors import SettingError

BOOKS, SIZE = 3, 4
CODED: dict[str, Any] = {**SETTINGS, "items": "codes", "books": BOOKS, "book_size": SIZE, "own_items": 0}


def draw_codes(n_items: int = N_ITEMS, books: int = BOOKS, size: int = SIZE) -> torch.Tensor:
    return torch.randint(size, (n_items, books), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def coded_student(model: str = "sasrec", n_items: int = N_ITEMS, **changed: Any) -> Student:
    settings = {**CODED, **changed}
    if model == "gru4rec":
        settings = {key: value for key, value in settings.items() if key not in ("blocks", "heads")} | {"hidden": 6}
    return create_student(model, n_items, settings, draw_codes(n_items, settings["books"], settings["book_size"]))


def coded_latent(n_items: int = N_ITEMS, books: int = BOOKS, size: int = SIZE, length: int = 4) -> LatentSequences:
    generator = torch.Generator().manual_seed(5)
    items = torch.randint(n_items, (4, length), generator=generator)
    targets = torch.randn(4, length, 3, generator=generator)
    decoder = torch.randn(3, books * size, generator=generator)
    return LatentSequences(items, decoder, targets, 0.8, books=Books(draw_codes(n_items, books, size), size))


def slow_table(shared: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    rows = [sum(shared[k * SIZE + int(code)] for k, code in enumerate(row)) for row in codes]
    return torch.stack(rows)  # type: ignore[arg-type]


def slow_marginals(shares: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(*shares.shape[:-1], BOOKS * SIZE, dtype=shares.dtype)
    for item, row in enumerate(codes):
        for k, code in enumerate(row):
            found[..., k * SIZE + int(code)] += shares[..., item]
    return found


def twin(student: Student, parameters: Parameters, model: str) -> tuple[Student, Parameters]:
    """A student with a vector per item, equal to the composed one."""
    settings = SETTINGS if model == "sasrec" else {"dim": 8, "hidden": 6, "length": LENGTH, "dropout": 0.0}
    table = slow_table(parameters["items.shared"], draw_codes())
    own = {name: value for name, value in parameters.items() if name != "items.shared"}
    return create_student(model, N_ITEMS, settings), {
        **own,
        "items.weight": torch.nn.functional.pad(table, (0, 0, 0, 1)),
    }


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_losses_are_those_of_a_table_of_all_items(model: str) -> None:
    """Of tokens over items, of which only the distributions over the books are handed on; and of real sequences."""
    student = coded_student(model)
    parameters = {name: value.double() for name, value in student.draw(0).items()}
    slow, own = twin(student, parameters, model)
    torch.testing.assert_close(student.table(parameters), slow.table(own))
    items = torch.tensor([[N_ITEMS, 3, 5, 3], [1, 2, 3, 11]])
    torch.testing.assert_close(student.states(parameters, items), slow.states(own, items))
    shares = torch.randn(2, 4, N_ITEMS, dtype=torch.float64).softmax(dim=2)
    tokens = slow_marginals(shares, draw_codes())
    torch.testing.assert_close(student.states(parameters, tokens), slow.states(own, shares))
    losses = [student.soft_loss(parameters, items[1:], tokens[1:]), slow.soft_loss(own, items[1:], shares[1:])]
    torch.testing.assert_close(*losses)
    batch = OuterBatches(make_rows(), LENGTH, 2, seed=0).draw(6, 16, 0)
    teachers = [
        [Teacher(one, {k: 2 * v for k, v in known.items()})] for one, known in ((student, parameters), (slow, own))
    ]
    torch.testing.assert_close(
        outer_loss(student, parameters, batch, teachers[0], 0.7), outer_loss(slow, own, batch, teachers[1], 0.7)
    )
    assert student.item_scores(parameters, make_rows()) == pytest.approx(slow.item_scores(own, make_rows()), rel=1e-5)


def test_with_every_item_drawn_the_outer_loss_is_that_of_all() -> None:
    student = coded_student()
    parameters, teacher = student.draw(0), [Teacher(student, student.draw(1))]
    whole, drawn = (OuterBatches(make_rows(), LENGTH, 2, seed=0, sampled=k).draw(6, 16, 0) for k in (0, 99))
    assert drawn.drawn.tolist() == list(range(N_ITEMS))
    for share in (0.0, 0.7):
        expected = outer_loss(student, parameters, whole, teacher, share)
        torch.testing.assert_close(outer_loss(student, parameters, drawn, teacher, share), expected)


def test_a_sampled_loss_is_near_that_of_all_items() -> None:
    whole, sampled = coded_student(n_items=500), coded_student(n_items=500, sampled=100)
    parameters = {name: 3 * value for name, value in whole.draw(0).items()}
    inputs, targets = coded_latent(500).tokens(torch.arange(4))
    expected = whole.soft_loss(parameters, inputs, targets)
    found = torch.stack([sampled.soft_loss(parameters, inputs, targets) for _ in range(20)])
    assert found.std() > 0
    assert abs(float(found.mean() - expected)) < 0.02


@pytest.mark.parametrize("sampled", [0, 5])
def test_the_gradient_of_a_window_is_that_of_finite_differences(sampled: int) -> None:
    latent, student = coded_latent(), coded_student(sampled=sampled)
    latent = latent.with_tensors([tensor.double().requires_grad_() for tensor in latent.tensors])
    drawn = {name: value.double() for name, value in student.draw(3).items()}
    batch = OuterBatches(make_rows(), LENGTH, 2, 0, sampled).draw(6, 16, 0)

    def loss(tensors: list[torch.Tensor]) -> torch.Tensor:
        trained, _ = run_inner_loop(student, latent.with_tensors(tensors), InnerLoop(2, 0.02), drawn, None, 4)
        return outer_loss(student, trained, batch, [], 0.0)

    found = torch.autograd.grad(loss(latent.tensors), latent.tensors)
    assert len(found) == 2
    for k, gradient in enumerate(found):
        ends = []
        for sign in (1, -1):
            moved = [tensor.detach().clone() for tensor in latent.tensors]
            moved[k] += sign * 1e-5 * gradient / gradient.norm()
            ends.append(float(loss(moved)))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_a_run_goes_on_after_a_stop_and_two_workers_do_what_one_does() -> None:
    asked: dict[str, Any] = {"latent": coded_latent(), "student": coded_student(sampled=5), "parallel": 2}
    whole, states = make_farzi(**asked), []
    whole.run(lambda: states.append(whole.state()))
    assert not torch.equal(whole.best.decoder, coded_latent().decoder)
    again = make_farzi(**asked)
    again.restore(states[4])
    again.run()
    assert torch.equal(numbers(again), numbers(whole))
    for farzi in together(2, states[4], **asked):
        torch.testing.assert_close(numbers(farzi), numbers(whole), rtol=1e-4, atol=1e-5)
    other = replace(coded_latent(), books=Books(draw_codes().flip(0), SIZE))
    with pytest.raises(Exception, match="The checkpoint has codes="):
        make_farzi(latent=other, student=coded_student(sampled=5), parallel=2).restore(states[4])


def test_sequences_are_stored_with_their_codes_and_models_are_fitted_on_them() -> None:
    latent = replace(coded_latent(), bits=4.0)
    found = dequantise(quantise(latent))
    assert found.books is not None
    assert torch.equal(found.books.codes, draw_codes().long())
    assert (found.books.size, found.n_items, found.bits) == (SIZE, N_ITEMS, 4.0)
    assert torch.equal(found.inputs, latent.inputs)
    settings = {**CODED, "epochs": 3, "batch_size": 2, "learning_rate": 0.02, "seed": 7}
    model = fit_sequences(found, "sasrec", settings, shuffled=False, item_space=None)
    student = coded_student()
    trained = train_student(student, found, InnerLoop(2, 0.02, seed=7), 6, 7)
    np.testing.assert_allclose(
        model.score(make_rows()), student.item_scores(trained, make_rows()), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(SettingError, match="distilled with items=codes books=3 book_size=4; leave"):
        fit_sequences(found, "sasrec", {**settings, "books": 2}, shuffled=False, item_space=None)
    with pytest.raises(SettingError, match="distilled with items=codes"):
        fit_sequences(found, "sasrec", {**SETTINGS}, shuffled=False, item_space=None)
    shares = found.distributions(1)
    assert shares[:4].argmax(dim=1).tolist() == latent.inputs[1].tolist()
    last = found.tokens(torch.tensor([1]))[1][0, -1]
    product = [np.prod([float(last[k * SIZE + int(code)]) for k, code in enumerate(row)]) for row in draw_codes()]
    np.testing.assert_allclose(shares[4], np.array(product) / sum(product), rtol=1e-4)


def test_the_start_has_the_teacher_s_distributions_over_the_books() -> None:
    student = coded_student()
    teacher = Teacher(student, {name: 3 * value for name, value in student.draw(0).items()})
    config = FarziConfig(
        sequences=3, length=4, items="codes", books=BOOKS, book_size=SIZE, width=12, model=SETTINGS, bits=6.0
    )  # type: ignore[call-arg]
    assert (config.teachers, config.consensus, config.inputs) == (1, 0, "items")
    start = initial_sequences(config, [teacher], make_rows())
    items = torch.from_numpy(real_sequences(make_rows(), 3, 5, 0))[:, :-1]
    assert torch.equal(start.inputs, items)
    shares = (teacher.states(items) @ student.table(teacher.parameters).T).softmax(dim=2)
    torch.testing.assert_close(
        start.tokens(torch.arange(3))[1], slow_marginals(shares, draw_codes()), rtol=1e-3, atol=1e-5
    )
    assert (start.bits, start.decoder.shape) == (6.0, (12, 12))
    noise = initial_sequences(config.model_copy(update={"start": "random"}), [teacher], make_rows())
    assert noise.decoder.shape == (12, 12)
    assert noise.tokens(torch.arange(3))[1].unflatten(2, (BOOKS, SIZE)).sum(dim=3).allclose(torch.ones(3, 4, BOOKS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teachers": 2}, "items=codes needs teachers=1"),
        ({"consensus": 10}, "items=codes needs consensus=0"),
        ({"inputs": "soft"}, "items=codes needs inputs=items"),
        ({"model": {"books": 2}}, "set books of the distillation"),
        ({"items": "own", "sampled": 10}, "sampled needs items=codes"),
    ],
)
def test_what_codes_cannot_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FarziConfig(**{"items": "codes", **settings})
    with pytest.raises(SettingError, match="own_items=0"):
        create_student("sasrec", N_ITEMS, {**CODED, "own_items": 5}, draw_codes())


class _Largest(TorchDispatchMode):
    """Records the most numbers of any tensor that is made."""

    most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor._base is None:
                self.most = max(self.most, tensor.numel())
        return made


def test_no_tensor_of_a_step_grows_with_the_catalogue() -> None:
    """Neither there nor back, in the students' training and in the outer loss."""

    def most(n_items: int, sampled: int) -> int:
        latent, student = coded_latent(n_items), coded_student(n_items=n_items, sampled=sampled)
        latent = latent.with_tensors([tensor.requires_grad_() for tensor in latent.tensors])
        teacher, drawn = [Teacher(student, student.draw(1))], student.draw(0)
        batch = OuterBatches(replace(make_rows(), n_items=n_items), LENGTH, 2, 0, sampled).draw(6, 16, 0)
        with _Largest() as seen:
            trained, _ = run_inner_loop(student, latent, InnerLoop(2, 0.02), drawn, None, 3)
            torch.autograd.grad(outer_loss(student, trained, batch, teacher, 0.7), latent.tensors)
        return seen.most

    assert most(1_000, 20) == most(10_000, 20) == most(100_000, 20) < 1_000
    assert most(1_000, 0) >= 8_000
