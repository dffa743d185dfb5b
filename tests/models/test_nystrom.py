"""Nyström: the formulas in dense algebra, landmarks, several workers, and which solver is chosen when."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import RecommenderContract, blocks, make_rows
from crew_kit import crew, random_rows, source_of

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.landmarks import draw_landmarks, leverage_weights
from distill_at_scale.models.kernel.ntk import SyntheticUsers, TrainUsers
from distill_at_scale.models.kernel.nystrom import NormalEquations
from distill_at_scale.models.kernel.pcg import Sharing
from distill_at_scale.models.kernel.solvers import Size, Speed, choose_solver, fewer_landmarks, measure_speed, memory
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import MemorySource

CPU = torch.device("cpu")


class TestByNystrom(RecommenderContract):
    name = "infinite_ae"
    settings: ClassVar = {"lam": 0.5, "solver": "nystrom", "device": "cpu"}
    open_parameter = "lam"
    small_grid = (0.5, 2.0)


def dense_kernel(a: Interactions, b: TrainUsers | SyntheticUsers) -> np.ndarray:
    return b.kernel_with(a.to_csr(), torch.float64, CPU).numpy()


def exact_scores(train: Interactions, others: Interactions, lam: float) -> np.ndarray:
    k = dense_kernel(train, TrainUsers(train))
    shift = lam * np.trace(k) / len(k)
    return dense_kernel(others, TrainUsers(train)) @ np.linalg.solve(k + shift * np.eye(len(k)), x_of(train))


def x_of(rows: Interactions) -> np.ndarray:
    return rows.to_csr(dtype=np.float64).toarray()


def test_with_all_users_as_landmarks_it_is_exact() -> None:
    train, others = random_rows(90, 40, 0), random_rows(20, 40, 1)
    settings = {"lam": 0.7, "solver": "nystrom", "landmarks": 90, "dtype": "float64"}
    model = create_model("infinite_ae", settings).fit(train)
    np.testing.assert_allclose(model.score(others), exact_scores(train, others, 0.7), atol=1e-5)


@pytest.mark.parametrize("real", [False, True], ids=["users", "synthetic"])
def test_the_solution_is_that_of_the_normal_equations(real: bool) -> None:
    train, shift = random_rows(80, 30, 2), 0.4
    rows = np.random.default_rng(3).normal(size=(12, 30)).astype(np.float32)
    landmarks = SyntheticUsers(rows) if real else TrainUsers(train.slice(5, 25))
    equations = NormalEquations(landmarks)
    equations.add(train)
    k_um, k_mm = dense_kernel(train, landmarks), landmarks.kernel(torch.float64, CPU).numpy()
    expected = np.linalg.solve(k_um.T @ k_um + shift * k_mm, k_um.T @ x_of(train))
    np.testing.assert_allclose(equations.solve(shift, Communicator()), expected, atol=1e-7)


@pytest.mark.parametrize("metric", ["hr@3", "auc"])
def test_any_number_of_workers_finds_the_same(metric: str) -> None:
    train, heldout = blocks()
    strangers = random_rows(9, train.n_items, 4)

    def fit(communicator: Sharing) -> InfiniteAE:
        model = InfiniteAE(grid=(0.5, 2.0), metric=metric, landmarks=15, draw="leverage", dtype="float64", seed=3)
        selection, weights = model.fit_nystrom(source_of(train, heldout, communicator), communicator)
        model.adopt(weights, selection, train.n_items, None)
        return model

    (alone,) = crew(1, fit)
    for world_size in (2, 4):
        for model in crew(world_size, fit):
            np.testing.assert_allclose(model.score(strangers), alone.score(strangers), atol=1e-6)
            assert model.selection is not None
            assert alone.selection is not None
            found, expected = ([(p.value, p.metric) for p in m.selection.points] for m in (model, alone))  # type: ignore[union-attr]
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_worker_chooses_as_the_contract_of_selection_says() -> None:
    """The metric of each λ is that of scoring the train rows by the fitted model."""
    from distill_at_scale.evaluation import evaluate

    train, heldout = blocks()
    settings = {"solver": "nystrom", "landmarks": 10, "dtype": "float64"}
    model = create_model("infinite_ae", {**settings, "grid": (1.0, 3.0), "metric": "ndcg@3"}).fit(train, heldout)
    assert model.selection is not None
    for point in model.selection.points:
        direct = create_model("infinite_ae", {**settings, "lam": point.value}).fit(train)
        result = evaluate(direct.score, train, heldout, train.item_counts(), train.n_rows, (3,))
        assert point.metric == pytest.approx(result.metrics["ndcg@3"], abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True], ids=["uniform", "leverage"])
def test_landmarks_are_the_same_whatever_the_workers(weighted: bool) -> None:
    train = random_rows(60, 20, 5)

    def draw(communicator: Sharing) -> Interactions:
        source = source_of(train, None, communicator)
        weights = leverage_weights(source, 1.0, 12, 7, communicator) if weighted else None
        return draw_landmarks(source, 12, 7, communicator, weights)

    (alone,) = crew(1, draw)
    assert len(alone) == 12
    np.testing.assert_array_equal(x_of(alone), x_of(train)[alone.users])
    for world_size in (2, 3, 5):
        for found in crew(world_size, draw):
            np.testing.assert_array_equal(found.users, alone.users)
            np.testing.assert_array_equal(found.offsets, alone.offsets)
            np.testing.assert_array_equal(found.items, alone.items)
    other = draw_landmarks(MemorySource(train, None), 12, 8, Communicator())
    assert other.users.tolist() != alone.users.tolist()


def test_equal_and_empty_users_are_drawn_once_and_never() -> None:
    rows = make_rows([[0, 1], [1, 0], [], [0, 1, 1], [2], [], [2, 3], [2]], 4)
    found = draw_landmarks(MemorySource(rows, None), 6, 0, Communicator())
    assert sorted(map(tuple, x_of(found).tolist())) == [(0, 0, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0)]
    # More than there are: all of them, and the fit is the one with so many.
    assert draw_landmarks(MemorySource(rows, None), 7, 0, Communicator()).users.tolist() == found.users.tolist()
    few, many = (
        create_model("infinite_ae", {"lam": 1, "solver": "nystrom", "landmarks": n}).fit(rows) for n in (6, 700)
    )
    np.testing.assert_array_equal(few.score(rows), many.score(rows))


def test_with_all_users_as_pilot_the_weights_are_ridge_leverage_scores() -> None:
    train, lam = random_rows(50, 25, 6), 0.8
    weights = leverage_weights(MemorySource(train, None), lam, 50, 0, Communicator())(train)
    k = dense_kernel(train, TrainUsers(train))
    shift = lam * np.trace(k) / 50
    expected = np.diag(k @ np.linalg.inv(k + shift * np.eye(50)))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_heavy_users_are_drawn_first() -> None:
    """With weights 1 and 9, a single draw takes a heavy user 9 times in 10 (300 seeds, 4 standard errors)."""
    rows = make_rows([[k] for k in range(10)], 10)
    source = MemorySource(rows, None)
    heavy = np.arange(10) < 5
    taken = [
        int(draw_landmarks(source, 1, seed, Communicator(), lambda rows: np.where(heavy, 9.0, 1.0)).users[0])
        for seed in range(300)
    ]
    assert np.mean(heavy[taken]) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 300))


def test_wrong_settings_are_refused() -> None:
    train = blocks()[0]
    with pytest.raises(DasError, match=r"setting 'lam': .*must be above 0"):
        create_model("infinite_ae", {"lam": 0, "solver": "nystrom"})
    with pytest.raises(DasError, match="cannot be drawn by 'best' here; set draw to uniform or leverage"):
        create_model("infinite_ae", {"lam": 1, "solver": "nystrom", "draw": "best"}).fit(train)


SPEED = Speed(flops=5e10, elements=1e7)


def size(n_users: int, workers: int, n_items: int = 3706, landmarks: int | None = None) -> Size:
    return Size(n_users, n_items, 130 * n_users, 7, landmarks, 4, workers)


@pytest.mark.parametrize(
    ("asked", "gib", "solver", "reason"),
    [
        (size(6040, 1), 4, "exact", "fit into the memory of one worker"),
        (size(25_000, 4), 1.2, "pcg", "pcg gives the same answer with less memory"),
        (size(40_000, 16), 10, "pcg", "faster than one worker's exact solver"),
        (size(2_000_000, 4), 4, "nystrom", "nor pcg"),
        (size(100_000, 2), 64, "nystrom", "would take"),
    ],
)
def test_auto_chooses(asked: Size, gib: float, solver: str, reason: str) -> None:
    # Four workers a machine.
    machine = int(gib * 2**30) * min(asked.workers, 4)
    plan = choose_solver(asked, int(gib * 2**30), machine, SPEED)
    assert plan.solver == solver
    assert reason in plan.why
    assert f": {solver}, because" in plan.why
    assert "predicted:" in plan.why
    assert plan.bytes <= (machine if solver == "exact" else gib * 2**30)


def test_auto_refuses_what_fits_nowhere() -> None:
    with pytest.raises(DasError, match=r"too little memory for any solver .* use more workers, fewer landmarks"):
        choose_solver(size(1_000_000, 1), 2**20, 2**20, SPEED)


def test_auto_starts_nothing_that_would_take_years() -> None:
    """Users × items in time, though not in memory: pcg fits, and nystrom does not."""
    large = size(250_000, 1, n_items=1_300_000)
    with pytest.raises(DasError, match=r"would take [\d,]+ years by pcg, .* \(elsa, als\), .*--solver pcg"):
        choose_solver(large, 20 * 2**30, 20 * 2**30, SPEED)


def test_fewer_landmarks_are_advised_where_they_help() -> None:
    asked = size(250_000, 1, n_items=100_000)
    found = re.search(r"--set landmarks=(\d+)", fewer_landmarks(asked, 6 * 2**30))
    assert found is not None
    assert memory("nystrom", size(250_000, 1, n_items=100_000, landmarks=int(found[1]))) <= 6 * 2**30
    large = size(250_000, 1, n_items=1_300_000)
    assert "elsa, als" in fewer_landmarks(large, 20 * 2**30)


def test_memory_falls_with_workers_and_landmarks() -> None:
    assert memory("pcg", size(200_000, 8)) < memory("pcg", size(200_000, 2))
    assert memory("nystrom", size(200_000, 2, landmarks=500)) < memory("nystrom", size(200_000, 2))
    assert memory("exact", size(20_000, 1)) > 4 * 2 * 20_000**2
    narrow = size(25_000, 4)
    assert narrow.own_users * narrow.chunk * 4 * 7 <= 768 << 20


def test_speed_is_measured() -> None:
    speed = measure_speed(300, 20)
    assert speed.flops > 0
    assert speed.elements > 0
