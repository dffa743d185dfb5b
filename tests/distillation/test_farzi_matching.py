"""Farzi's objectives without gradients through training: matched states and matched gradients."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from farzi_kit import LENGTH, N_ITEMS, make_farzi, make_latent, make_rows, make_student
from pydantic import ValidationError
from test_books import coded_latent, coded_student

from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.farzi import (
    Farzi,
    FarziConfig,
    FarziLoopConfig,
    LatentSequences,
    MatchPoint,
    OuterBatch,
    OuterBatches,
    Teacher,
    gradients_loss,
    outer_loss,
    states_loss,
    target_vectors,
)
from distill_at_scale.distillation.farzi_config import LATER
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError

LEAST, SHARE = 2, 0.7


def double(parameters: Parameters) -> Parameters:
    return {name: value.double() for name, value in parameters.items()}


def world(student: Student | None = None, sampled: int = 0) -> tuple[Student, Parameters, OuterBatch, list[Teacher]]:
    """A student, real windows and two teachers with larger parameters than drawn ones, in float64."""
    student = student or make_student()
    teachers = [Teacher(student, double({k: 3 * v for k, v in student.draw(seed).items()})) for seed in (8, 9)]
    batch = OuterBatches(make_rows(), LENGTH, LEAST, 0, sampled).draw(6, 16, 0)
    return student, double(student.draw(3)), batch, teachers


def learned(latent: LatentSequences) -> LatentSequences:
    return latent.with_tensors([tensor.double().requires_grad_() for tensor in latent.tensors])


def loss_of(objective: str, latent: LatentSequences, student: Student, sampled: int = 0) -> torch.Tensor:
    student, parameters, batch, teachers = world(student, sampled)
    at = MatchPoint(student, parameters, latent, (2, 0), batch, teachers, SHARE)
    return states_loss(at, LEAST) if objective == "states" else gradients_loss(at, 5, 1)[0]


def relative_errors(found: list[np.ndarray], real: list[np.ndarray]) -> float:
    return float(sum(((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(found, real)))


def slow_targets() -> np.ndarray:
    """The distributions of real targets, position by position."""
    student, _, batch, teachers = world()
    found = np.zeros((len(batch.answers), N_ITEMS))
    for place, answer in enumerate(batch.answers.tolist()):
        row, column = int(batch.rows[place]), int(batch.columns[place])
        found[place, answer] += 1 - SHARE
        for teacher in teachers:
            state = teacher.states(batch.items[row : row + 1])[0, column]
            odds = (student.table(teacher.parameters) @ state).exp().numpy()
            odds[batch.seen_items[batch.seen_rows == place].tolist()] = 0
            found[place] += SHARE * odds / odds.sum() / 2
    return found


def test_real_targets_are_the_answers_and_what_teachers_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    student, parameters, batch, teachers = world()
    expected = slow_targets() @ student.table(parameters).numpy()
    monkeypatch.setattr(soft_tokens, "_LEAST_PLACES", 5)
    monkeypatch.setattr(soft_tokens, "_CHUNK_BYTES", 1)
    found = target_vectors(student, parameters, batch, teachers, SHARE)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    answers = student.table(parameters)[batch.answers]
    for given in (([], SHARE), (teachers, 0.0)):
        assert torch.equal(target_vectors(student, parameters, batch, *given), answers)
    every = OuterBatches(make_rows(), LENGTH, LEAST, 0, N_ITEMS).draw(6, 16, 0)
    drawn = target_vectors(student, parameters, every, teachers, SHARE)
    np.testing.assert_allclose(drawn.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("coupled", [False, True])
def test_the_loss_of_states_is_its_definition(coupled: bool) -> None:
    student, parameters, batch, _ = world()
    latent, table = learned(make_latent(coupled=coupled)), student.table(parameters).numpy()
    real = [
        (student.states(parameters, batch.items[row : row + 1])[0, column].detach().numpy(), target @ table)
        for row, column, target in zip(batch.rows.tolist(), batch.columns.tolist(), slow_targets())
    ]
    made = []
    for row in (2, 0):
        inputs, targets = latent.tokens(torch.tensor([row]))
        states = student.states(parameters, inputs)[0].detach().numpy()
        made += [(states[k], targets[0, k].detach().numpy() @ table) for k in range(LEAST - 1, len(states))]

    def moments(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        h, y = (sum(pair[k] for pair in pairs) / len(pairs) for k in (0, 1))
        of_states = sum(np.outer(a - h, a - h) for a, _ in pairs) / len(pairs)
        of_both = sum(np.outer(a - h, b - y) for a, b in pairs) / len(pairs)
        return [h, y, of_states, of_both]

    found = loss_of("states", latent, student)
    assert float(found.detach()) == pytest.approx(relative_errors(moments(made), moments(real)), rel=1e-9)


@pytest.mark.parametrize("coupled", [False, True])
def test_the_loss_of_gradients_is_its_definition(coupled: bool) -> None:
    student, parameters, batch, _ = world()
    latent = learned(make_latent(coupled=coupled))

    def gradient(inputs: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor | None, places: Any) -> Any:
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        logits = student.states(leaves, inputs)[places] @ student.table(leaves).T
        if seen is not None:
            logits = logits.masked_fill(seen, -torch.inf)
        odds = logits.exp()
        logs = torch.where(targets > 0, odds / odds.sum(dim=-1, keepdim=True), 1).log()
        loss = -(targets * logs).sum(dim=-1).mean()
        return [part.numpy() for part in torch.autograd.grad(loss, list(leaves.values()))]

    inputs, targets = (part.detach() for part in latent.tokens(torch.tensor([2, 0])))
    made = gradient(inputs, targets, None, slice(None))
    seen = torch.zeros(len(batch.answers), N_ITEMS, dtype=torch.bool)
    seen[batch.seen_rows, batch.seen_items] = True
    real = gradient(batch.items, torch.from_numpy(slow_targets()), seen, (batch.rows, batch.columns))
    found = loss_of("gradients", latent, student)
    assert float(found.detach()) == pytest.approx(relative_errors(made, real), rel=1e-7)


def test_the_loss_of_gradients_says_how_well_the_student_does() -> None:
    student, parameters, batch, teachers = world()
    at = MatchPoint(student, parameters, learned(make_latent()), (0,), batch, teachers, SHARE)
    _, real_loss = gradients_loss(at, 0, 0)
    assert real_loss == pytest.approx(float(outer_loss(student, parameters, batch, teachers, SHARE)), rel=1e-12)


@pytest.mark.parametrize("objective", ["states", "gradients"])
@pytest.mark.parametrize("kind", ["decoupled", "coupled", "gru4rec", "codes", "drawn items", "dropout"])
def test_gradients_are_those_of_finite_differences(objective: str, kind: str) -> None:
    student, sampled, latent = make_student(), 0, make_latent(coupled=kind == "coupled")
    if kind == "gru4rec":
        student = coded_student("gru4rec")
    if kind in ("codes", "drawn items", "gru4rec"):
        latent, sampled = coded_latent(), 5 if kind == "drawn items" else 0
        student = student if kind == "gru4rec" else coded_student(sampled=sampled)
    if kind == "dropout":
        student = make_student(dropout=0.3)
    latent = learned(latent)
    gradients = torch.autograd.grad(loss_of(objective, latent, student, sampled), latent.tensors)
    for k, gradient in enumerate(gradients):
        ends = []
        for sign in (1, -1):
            moved = [tensor.detach().clone() for tensor in latent.tensors]
            moved[k] += sign * 1e-5 * gradient / gradient.norm()
            ends.append(float(loss_of(objective, latent.with_tensors(moved), student, sampled).detach()))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_chunks_of_positions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    latent = learned(make_latent())
    monkeypatch.setattr(soft_tokens, "_LEAST_PLACES", 3)
    monkeypatch.setattr(soft_tokens, "_CHUNK_BYTES", 1)
    for objective in ("states", "gradients"):
        found = []
        for above in (N_ITEMS, N_ITEMS - 1):
            monkeypatch.setattr(soft_tokens, "CHUNKED_ABOVE", above)
            loss = loss_of(objective, latent, make_student())
            found.append([loss, *torch.autograd.grad(loss, latent.tensors)])
        for whole, chunked in zip(*found):
            torch.testing.assert_close(chunked, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", ["states", "gradients"])
def test_a_step_is_taken_at_the_student_before_its_window(objective: str) -> None:
    """And the student then trains as it would with any objective."""
    farzi, unrolled = make_farzi(objective=objective, pool=1), make_farzi(pool=1)
    first = {name: value.clone() for name, value in farzi._pools[0][0].parameters.items()}
    found = farzi._window(0, 0)
    unrolled._window(0, 0)
    assert found is not None
    assert farzi._pools[0][0].age == 3
    for name, value in unrolled._pools[0][0].parameters.items():
        torch.testing.assert_close(farzi._pools[0][0].parameters[name], value, rtol=1e-6, atol=1e-8)
    assert not torch.equal(first["items.weight"], farzi._pools[0][0].parameters["items.weight"])
    assert all(float(gradient.norm()) > 0 for gradient in found[1])


@pytest.mark.parametrize("objective", ["states", "gradients"])
def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped(objective: str) -> None:
    whole, states = make_farzi(objective=objective), []
    whole.run(lambda: states.append(whole.state()))
    again = make_farzi(objective=objective)
    again.restore(states[4])
    again.run()
    for a, b in zip(again.averaged.tensors, whole.averaged.tensors):
        assert torch.equal(a, b)
    assert again.points == whole.points
    with pytest.raises(DasError, match=rf"The checkpoint has objective={objective}, this run has unrolled"):
        make_farzi().restore(states[4])


def test_what_was_begun_before_the_setting_existed_goes_on() -> None:
    """Plans, checkpoints and results then had no objective."""
    assert "objective" not in FarziConfig().model_dump()
    assert "objective" not in json.loads(FarziConfig().model_dump_json())
    assert FarziConfig(objective="states").model_dump()["objective"] == "states"
    assert not LATER.keys() & FarziConfig().model_dump().keys(), "nor any other setting that came later"
    assert FarziConfig(fitted=3).model_dump()["fitted"] == 3
    farzi = make_farzi()
    content = farzi.state()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    place = json.loads(header["__metadata__"]["farzi"])
    assert "objective" not in place["config"]
    make_farzi().restore(content)
    with pytest.raises(DasError, match="The checkpoint has objective=unrolled, this run has gradients"):
        make_farzi(objective="gradients").restore(content)
    assert safetensors.torch.load(content)


@pytest.mark.parametrize("objective", ["states", "gradients"])
def test_a_diverging_student_shortens_the_window_and_then_stops(objective: str) -> None:
    farzi, windows = make_farzi(objective=objective, steps=40, student_rate=1e12, window=4, patience=50), []
    with pytest.raises(DasError, match="even in windows of one step; set a smaller student_rate"):
        farzi.run(lambda: windows.append(farzi.window))
    assert sorted(set(windows), reverse=True) == [4, 2, 1]


@pytest.mark.parametrize("objective", ["states", "gradients"])
def test_matching_comes_nearer(objective: str) -> None:
    """On sequences of noise, at students and in real windows that were not learned from."""
    student, rows = make_student(), make_rows(n_users=60)
    teachers = [Teacher(student, student.draw(77))]
    config = FarziLoopConfig(
        objective=objective,  # type: ignore[arg-type]
        steps=60,
        rate=0.05,
        batch=2,
        window=2,
        horizon=8,
        pool=2,
        lesson_users=32,
        lesson_places=200,
        least_context=LEAST,
        validate_every=60,
        validation_students=1,
    )
    outer_batches = OuterBatches(rows, LENGTH, LEAST, seed=0)
    farzi = Farzi(config, student, make_latent(n_sequences=6), outer_batches, teachers, lambda parameters: 0.0)
    farzi.run()
    exam = OuterBatches(rows, LENGTH, LEAST, seed=9).draw(60, 400, 0)

    def unlike(latent: LatentSequences) -> float:
        at = MatchPoint(student, student.draw(500), latent, range(6), exam, teachers, config.teacher_share)
        found = states_loss(at, LEAST) if objective == "states" else gradients_loss(at, 0, 0)[0]
        return float(found.detach())

    assert unlike(farzi.averaged) < 0.87 * unlike(make_latent(n_sequences=6))


def test_settings_that_belong_to_a_training_are_refused() -> None:
    for name, value in (("learned_rates", 2), ("alignment", 0.1)):
        with pytest.raises(ValidationError, match=rf"{name} needs objective=unrolled; leave {name} out"):
            FarziConfig.model_validate({"objective": "gradients", name: value})
    with pytest.raises(ValidationError, match="a sequence has 7 positions; set least_context to at most 7"):
        FarziConfig(objective="states", length=7)
    with pytest.raises(ValidationError, match="set least_context to at most 7"):
        FarziConfig.model_validate({"objective": "states", "length": 8, "coupled": True})
    assert FarziConfig(objective="states", length=8).objective == "states"
    assert FarziConfig(objective="gradients", length=7).objective == "gradients"
