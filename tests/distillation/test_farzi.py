"""Farzi's loop: its gradient, resuming, workers, divergence, and that distilling helps."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, make_farzi, make_latent, make_rows, make_student

from distill_at_scale.data import hashing
from distill_at_scale.distillation.farzi import (
    Farzi,
    FarziLoopConfig,
    InnerLoop,
    OuterBatches,
    dequantise,
    outer_loss,
    quantise,
    run_inner_loop,
    train_student,
)
from distill_at_scale.errors import DasError
from distill_at_scale.models.training.communicator import Communicator


def numbers(farzi: Farzi) -> torch.Tensor:
    parts = [*farzi.latent.tensors, *farzi.averaged.tensors, *farzi.best.tensors]
    return torch.cat([tensor.detach().flatten() for tensor in parts])


class Meeting:
    """Where workers in threads add up; only one computes at a time, since torch's generator is the process's."""

    def __init__(self, world_size: int) -> None:
        self.barrier, self.baton = threading.Barrier(world_size, timeout=60), threading.Lock()
        self.board: dict[int, torch.Tensor] = {}


class Peers(Communicator):
    """A worker in a thread."""

    def __init__(self, rank: int, world_size: int, meeting: Meeting) -> None:
        self.rank, self.world_size, self._meeting = rank, world_size, meeting

    def all_reduce(self, tensor: torch.Tensor) -> None:
        meeting = self._meeting
        meeting.board[self.rank] = tensor.clone()
        meeting.baton.release()
        meeting.barrier.wait()
        total = torch.stack([meeting.board[rank] for rank in range(self.world_size)]).sum(dim=0)
        meeting.barrier.wait()
        meeting.baton.acquire()
        tensor.copy_(total)


def together(world_size: int, state: bytes | None = None, **asked: Any) -> list[Farzi]:
    """All workers' distillers of two pools, run to the end, from a state on."""
    meeting, found = Meeting(world_size), {}

    def work(rank: int) -> None:
        with meeting.baton:
            farzi = make_farzi(Peers(rank, world_size, meeting), **{"parallel": 2, **asked})
            if state is not None:
                farzi.restore(state)
            farzi.run()
            found[rank] = farzi

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(world_size)]


@pytest.mark.parametrize("coupled", [False, True])
def test_the_gradient_of_a_window_is_that_of_finite_differences(coupled: bool) -> None:
    latent = make_latent(coupled=coupled)
    latent = latent.with_tensors([tensor.double().requires_grad_() for tensor in latent.tensors])
    student = make_student()
    drawn = {name: value.double() for name, value in student.draw(3).items()}
    batch = OuterBatches(make_rows(), LENGTH, 2, seed=0).draw(6, 16, 0)

    def loss(tensors: list[torch.Tensor]) -> torch.Tensor:
        trained, _ = run_inner_loop(student, latent.with_tensors(tensors), InnerLoop(2, 0.02), drawn, None, 4)
        return outer_loss(student, trained, batch, [], 0.0)

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
    with pytest.raises(DasError, match=r"The checkpoint has window=3, this run has 2"):
        make_farzi(window=2).restore(state)
    with pytest.raises(DasError, match=r"The checkpoint has sequences=\[\[4, 4, 3\].*this run has \[\[6, 4, 3\]"):
        make_farzi(latent=make_latent(n_sequences=6)).restore(state)


def test_trajectories_stand_at_all_ages_from_the_first_and_begin_anew() -> None:
    farzi = make_farzi(steps=12, horizon=6, window=2, pool=3)
    seen = []
    farzi.run(lambda: seen.append([(t.restarts, t.age) for t in farzi._pools[0]]))
    assert seen[0] == [(0, 0)] * 3  # a trajectory is led to its age when it is first needed
    assert seen[3] == [(0, 2), (0, 4), (0, 6)]
    assert seen[6] == [(0, 4), (0, 6), (1, 2)]
    assert seen[12] == [(1, 2), (1, 4), (1, 6)]
    # What led it there are steps on the sequences as they were.
    other = make_farzi(steps=12, horizon=6, window=2, pool=3)
    second = other._pools[0][1]
    start = {name: value.clone() for name, value in second.parameters.items()}
    seed = hashing.stream("farzi/inner_loop", 0, 0, 1, 0)
    inner_loop = InnerLoop(2, other._config.student_rate, True, seed)
    other._window(0, 1)
    slow, _ = run_inner_loop(make_student(), make_latent(), inner_loop, start, None, 4)
    for name, value in second.parameters.items():
        torch.testing.assert_close(value, slow[name], rtol=1e-4, atol=1e-6)


def test_the_horizon_grows_over_the_first_half_of_the_outer_steps() -> None:
    farzi = make_farzi(steps=20, horizon=12, first_horizon=4, window=2, pool=2, patience=50)
    limits, ages = [], []
    farzi.run(lambda: (limits.append(farzi._horizon()), ages.append(max(t.age for t in farzi._pools[0]))))
    assert limits[0] == 4
    assert limits[5] == 8
    assert limits[10:] == [12] * 11
    assert limits == sorted(limits)
    assert all(age <= limit for age, limit in zip(ages, limits))
    assert max(ages[:3]) <= 6
    assert max(ages) > 8
    assert make_farzi(horizon=6, first_horizon=9)._horizon() == 6


def test_trajectories_begin_at_pretrained_students_as_often_as_is_asked_for() -> None:
    student = make_student()
    known = [student.draw(seed) for seed in (900, 901)]

    def begins(share: float) -> list[int]:
        """Of sixty trajectories, at which pretrained student each begins; -1: at none."""
        farzi = make_farzi(pretrained=share, students=known)
        drawn = [farzi._drawn(0, 0, life).parameters for life in range(60)]
        alike = [[torch.equal(p["items.weight"], k["items.weight"]) for k in known] for p in drawn]
        return [row.index(True) if any(row) else -1 for row in alike]

    assert set(begins(0.0)) == {-1}
    assert set(begins(1.0)) == {0, 1}
    assert 15 < sum(k >= 0 for k in begins(0.5)) < 45
    whole = make_farzi(pretrained=0.5, students=known)
    states: list[bytes] = []
    whole.run(lambda: states.append(whole.state()))
    again = make_farzi(pretrained=0.5, students=known)
    again.restore(states[4])
    again.run()
    assert torch.equal(numbers(again), numbers(whole))
    with pytest.raises(DasError, match=r"pretrained=0.5 needs students of full-data trainings; pass some"):
        make_farzi(pretrained=0.5)
    with pytest.raises(DasError, match=r"The checkpoint has pretrained students=2, this run has 1"):
        make_farzi(pretrained=0.5, students=known[:1]).restore(states[4])


def test_rates_are_learned_by_their_gradient_and_kept() -> None:
    latent = make_latent()
    latent = replace(latent, log_rates=torch.tensor([0.3, -0.2, 0.1])).with_tensors(
        [*(tensor.double() for tensor in latent.tensors), torch.tensor([0.3, -0.2, 0.1]).double().requires_grad_()]
    )
    student, batch = make_student(), OuterBatches(make_rows(), LENGTH, 2, seed=0).draw(6, 16, 0)
    drawn = {name: value.double() for name, value in student.draw(3).items()}
    inner_loop = InnerLoop(2, 0.02, n_steps=6)

    def loss(log_rates: torch.Tensor) -> torch.Tensor:
        moved = latent.with_tensors([*latent.tensors[:-1], log_rates])
        return outer_loss(student, run_inner_loop(student, moved, inner_loop, drawn, None, 5)[0], batch, [], 0.0)

    rates = latent.log_rates
    assert rates is not None
    (found,) = torch.autograd.grad(loss(rates), rates)
    for part in range(3):
        step = torch.eye(3, dtype=torch.float64)[part] * 1e-5
        expected = float(loss(rates.detach() + step) - loss(rates.detach() - step)) / 2e-5
        assert float(found[part]) == pytest.approx(expected, rel=1e-4)
    # Steps 0 and 1 are the first third of six, and the last part's rate stays beyond the end.
    taken = inner_loop.rates(latent, 1, 6).log() - np.log(0.02)
    torch.testing.assert_close(taken, torch.tensor([0.3, -0.2, -0.2, 0.1, 0.1, 0.1]).double())

    farzi = make_farzi(learned_rates=2)
    best = farzi.run()
    assert best.log_rates is not None
    assert farzi.latent.log_rates is not None
    assert float(farzi.latent.log_rates.detach().abs().min()) > 1e-3
    packed = dequantise(quantise(farzi.latent))
    assert packed.log_rates is not None
    torch.testing.assert_close(packed.log_rates, farzi.latent.log_rates.detach())
    quick = replace(packed, log_rates=torch.tensor([1.0, 1.0]))
    same = train_student(student, replace(packed, log_rates=None), InnerLoop(2, 0.02 * np.e), 5, 1)
    for name, value in train_student(student, quick, InnerLoop(2, 0.02), 5, 1).items():
        torch.testing.assert_close(value, same[name], rtol=1e-4, atol=1e-6)


def test_in_bfloat16_gradients_come_near_those_in_float32() -> None:
    """Those of the first window most of all, where students learn in float32 all the same."""
    found: dict[bool, list[torch.Tensor]] = {}
    for mixed in (False, True):
        farzi = make_farzi(mixed=mixed, horizon=9, pool=1, rate=1e-9, student_rate=0.002)
        for _ in range(3):
            batch = farzi._window(0, 0)
            assert batch is not None
            found.setdefault(mixed, []).append(torch.cat([gradient.flatten() for gradient in batch[1]]))
            assert all(value.dtype == torch.float32 for value in farzi._pools[0][0].parameters.values())
    for window, (plain, mixed_) in enumerate(zip(found[False], found[True])):
        assert not torch.equal(plain, mixed_)
        assert float(torch.cosine_similarity(plain, mixed_, dim=0)) > (0.98 if window else 0.9995)


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
    outer_batches = OuterBatches(rows, LENGTH, 1, seed=0)
    exam = OuterBatches(make_rows(seed=1), LENGTH, 1, seed=9).draw(40, 100, 0)

    def passed(parameters: Any) -> float:
        with torch.no_grad():
            return -float(outer_loss(student, parameters, exam, [], 0.0))

    config = FarziLoopConfig(
        steps=60, rate=0.05, batch=2, window=5, horizon=15, pool=3, lesson_users=32, least_context=1, validate_every=20
    )
    farzi = Farzi(config, student, make_latent(n_sequences=6), outer_batches, [], passed)
    best = farzi.run()
    before, after = (
        np.mean([passed(train_student(student, latent, InnerLoop(2, 0.02), 15, seed)) for seed in (50, 51)])
        for latent in (make_latent(n_sequences=6), best)
    )
    assert before < -np.log(N_ITEMS) + 0.3  # noise teaches nothing
    assert after > before + 0.4
