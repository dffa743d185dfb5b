"""Farzi's loop: its gradient, resuming, workers, divergence, and that distilling helps."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, make_farzi, make_latent, make_rows, make_student

from distill_at_scale.distillation.farzi import (
    Curriculum,
    Farzi,
    FarziConfig,
    Lessons,
    outer_loss,
    school,
    train_student,
)
from distill_at_scale.errors import DasError
from distill_at_scale.models.training.trainer import Alone


def numbers(farzi: Farzi) -> torch.Tensor:
    parts = [*farzi.latent.tensors, *farzi.averaged.tensors, *farzi.best.tensors]
    return torch.cat([tensor.detach().flatten() for tensor in parts])


class Meeting:
    """Where workers in threads add up; only one computes at a time, since torch's generator is the process's."""

    def __init__(self, world: int) -> None:
        self.barrier, self.baton = threading.Barrier(world, timeout=60), threading.Lock()
        self.board: dict[int, torch.Tensor] = {}


class Peers(Alone):
    """A worker in a thread."""

    def __init__(self, rank: int, world: int, meeting: Meeting) -> None:
        self.rank, self.world, self._meeting = rank, world, meeting

    def add(self, tensor: torch.Tensor) -> None:
        meeting = self._meeting
        meeting.board[self.rank] = tensor.clone()
        meeting.baton.release()
        meeting.barrier.wait()
        total = torch.stack([meeting.board[rank] for rank in range(self.world)]).sum(dim=0)
        meeting.barrier.wait()
        meeting.baton.acquire()
        tensor.copy_(total)


def together(world: int, state: bytes | None = None) -> list[Farzi]:
    """All workers' distillers of two pools, run to the end, from a state on."""
    meeting, found = Meeting(world), {}

    def work(rank: int) -> None:
        with meeting.baton:
            farzi = make_farzi(Peers(rank, world, meeting), parallel=2)
            if state is not None:
                farzi.restore(state)
            farzi.run()
            found[rank] = farzi

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(world)]


@pytest.mark.parametrize("coupled", [False, True])
def test_the_gradient_of_a_window_is_that_of_finite_differences(coupled: bool) -> None:
    latent = make_latent(coupled=coupled)
    latent = latent.with_tensors([tensor.double().requires_grad_() for tensor in latent.tensors])
    student = make_student()
    drawn = {name: value.double() for name, value in student.draw(3).items()}
    lesson = Lessons(make_rows(), LENGTH, 2, seed=0).draw(6, 16, 0)

    def loss(tensors: list[torch.Tensor]) -> torch.Tensor:
        trained, _ = school(student, latent.with_tensors(tensors), Curriculum(2, 0.02), drawn, None, 4)
        return outer_loss(student, trained, lesson, [], 0.0)

    found = torch.autograd.grad(loss(latent.tensors), latent.tensors)
    for k, gradient in enumerate(found):
        ends = []
        for sign in (1, -1):
            moved = [tensor.detach().clone() for tensor in latent.tensors]
            moved[k] += sign * 1e-5 * gradient / gradient.norm()
            ends.append(float(loss(moved)))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped() -> None:
    whole = make_farzi()
    whole.run()
    for stop in (0, 1, 4, 6):
        farzi = make_farzi()
        states: list[bytes] = []
        farzi.run(lambda farzi=farzi, states=states: states.append(farzi.state()))
        again = make_farzi()
        again.restore(states[stop])
        assert again.step == stop
        again.run()
        assert torch.equal(numbers(again), numbers(whole))
        assert again.points == whole.points


def test_two_workers_do_what_one_does() -> None:
    alone = make_farzi(parallel=2)
    alone.run()
    first, second = together(2)
    assert torch.equal(numbers(first), numbers(second))
    torch.testing.assert_close(numbers(first), numbers(alone), rtol=1e-4, atol=1e-5)


def test_the_number_of_workers_may_change_on_resume() -> None:
    states: list[bytes] = []
    alone = make_farzi(parallel=2)
    alone.run(lambda: states.append(alone.state()))
    for farzi in together(2, states[4]):
        torch.testing.assert_close(numbers(farzi), numbers(alone), rtol=1e-4, atol=1e-5)


def test_more_workers_than_pools_are_refused() -> None:
    with pytest.raises(DasError, match="3 workers share parallel=2 pools"):
        make_farzi(Peers(0, 3, Meeting(3)), parallel=2)


def test_another_run_s_state_is_refused() -> None:
    state = make_farzi().state()
    with pytest.raises(DasError, match=r"The checkpoint has window=3, this run 2"):
        make_farzi(window=2).restore(state)
    with pytest.raises(DasError, match=r"The checkpoint has sequences=\[\[4, 4, 3\].*this run \[\[6, 4, 3\]"):
        make_farzi(latent=make_latent(n_sequences=6)).restore(state)


def test_trajectories_stand_at_different_ages_and_begin_anew() -> None:
    farzi = make_farzi(steps=12, horizon=6, window=3, pool=2)
    seen = []
    farzi.run(lambda: seen.append([(t.life, t.age) for t in farzi._pools[0]]))
    ages = [place[0] for place in seen]
    assert ages[:4] == [(0, 0), (0, 3), (0, 3), (1, 3)]  # the first life of the first place ends at half the horizon
    assert all(age <= 6 for places in seen for _, age in places)
    assert seen[-1][1][0] >= 1


def test_a_diverging_student_shortens_the_window_and_then_stops() -> None:
    farzi = make_farzi(steps=20, student_rate=1e12, window=4, patience=50)
    windows = []
    with pytest.raises(DasError, match="diverges at step 3 even in windows of one step; set a smaller student_rate"):
        farzi.run(lambda: windows.append(farzi.window))
    assert windows == [4, 2, 1]
    # What there was is untouched.
    for kept, start in zip(farzi.best.tensors, make_latent().tensors):
        assert torch.equal(kept, start)


def test_it_stops_when_validation_brings_nothing() -> None:
    values = iter([0.1, 0.5, 0.3, 0.4, 0.2, 0.9])
    farzi = make_farzi(steps=50, validate_every=1, patience=3)
    farzi._validate = lambda parameters: next(values)
    kept = []
    best = farzi.run(lambda: kept.append([tensor.clone() for tensor in farzi.averaged.tensors]))
    assert [value for _, value in farzi.points] == [0.1, 0.5, 0.3, 0.4, 0.2]
    assert all(torch.equal(a, b) for a, b in zip(best.tensors, kept[1]))


def test_distilling_helps_a_student() -> None:
    """From noise, in a world where the next item follows from the last."""
    rows, student = make_rows(n_users=60), make_student()
    lessons = Lessons(rows, LENGTH, 1, seed=0)
    exam = Lessons(make_rows(seed=1), LENGTH, 1, seed=9).draw(40, 100, 0)

    def passed(parameters: Any) -> float:
        with torch.no_grad():
            return -float(outer_loss(student, parameters, exam, [], 0.0))

    config = FarziConfig(
        steps=60, rate=0.05, batch=2, window=5, horizon=15, pool=3, lesson_users=32, least_context=1, validate_every=20
    )
    farzi = Farzi(config, student, make_latent(n_sequences=6), lessons, [], passed)
    best = farzi.run()
    before, after = (
        np.mean([passed(train_student(student, latent, Curriculum(2, 0.02), 15, seed)) for seed in (50, 51)])
        for latent in (make_latent(n_sequences=6), best)
    )
    assert before < -np.log(N_ITEMS) + 0.3  # noise teaches nothing
    assert after > before + 0.4
