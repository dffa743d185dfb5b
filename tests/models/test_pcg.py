"""Conjugate gradients: the formulas in dense algebra, several workers, resuming, agreement with the exact solver."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from contract import RecommenderContract, blocks
from crew_kit import crew, random_rows, share_of

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.kernel import pcg, pcg_fit
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.models.kernel.pcg import ConjugateGradients, Preconditioner, Sharing, StreamedKernel
from distill_at_scale.models.kernel.pcg_fit import PcgFit, PcgSettings, Shelf
from distill_at_scale.models.training.communicator import Communicator

CPU = torch.device("cpu")


class TestByPcg(RecommenderContract):
    name = "infinite_ae"
    settings: ClassVar = {"lam": 0.5, "solver": "pcg", "landmarks": 3, "device": "cpu"}
    open_parameter = "lam"
    small_grid = (0.5, 2.0)


def dense(rows: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """K and X."""
    return TrainUsers(rows).kernel(torch.float64, CPU).numpy(), rows.to_csr(dtype=np.float64).toarray()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks and tiles a worker, the last ones not full."""
    monkeypatch.setattr(pcg, "BLOCK", 16)
    monkeypatch.setattr(pcg, "_TILE", 9)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_streamed_kernel_is_the_kernel(small_blocks: None, world_size: int) -> None:
    train = random_rows(50, 20, 0)
    direction = np.random.default_rng(1).normal(size=(50, 6))

    def multiply(communicator: Sharing) -> np.ndarray:
        everyone = [share_of(train, _Rank(rank, world_size)) for rank in range(world_size)]
        cut = len(everyone[0])
        own = np.ascontiguousarray(direction[communicator.rank * cut : (communicator.rank + 1) * cut])
        product = np.full_like(own, np.nan)
        StreamedKernel(everyone, np.float64, communicator).times(own, product)
        return product

    np.testing.assert_allclose(np.vstack(crew(world_size, multiply)), dense(train)[0] @ direction, atol=1e-10)


class _Rank(Sharing):
    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size


def test_the_preconditioner_is_the_inverse_of_nystroms_approximation() -> None:
    train, shift = random_rows(40, 25, 2), 0.3
    landmarks = TrainUsers(train.slice(10, 19))
    values = np.random.default_rng(3).normal(size=(40, 5))
    preconditioner = Preconditioner(landmarks, train, np.float64, Communicator())
    preconditioner.set_shift(shift)
    found = np.empty_like(values)
    preconditioner.apply(values, found)
    k_um = landmarks.kernel_with(train.to_csr(), torch.float64, CPU).numpy()
    k_hat = k_um @ np.linalg.solve(landmarks.kernel(torch.float64, CPU).numpy(), k_um.T)
    np.testing.assert_allclose(found, np.linalg.solve(k_hat + shift * np.eye(40), values), atol=1e-8)


def test_every_step_is_the_textbooks() -> None:
    """Preconditioned conjugate gradients, column by column, in dense algebra."""
    train, shift, landmarks = random_rows(45, 18, 4), 0.5, 6
    k, x = dense(train)
    users = TrainUsers(train.slice(0, landmarks))
    preconditioner = Preconditioner(users, train, np.float64, Communicator())
    preconditioner.set_shift(shift)
    solver = ConjugateGradients(
        StreamedKernel([train], np.float64, Sharing()),
        preconditioner,
        train.to_csr(dtype=np.float64),
        shift,
        Communicator(),
    )
    a, k_hat = k + shift * np.eye(45), k[:, :landmarks] @ np.linalg.solve(k[:landmarks, :landmarks], k[:landmarks])
    inverse = np.linalg.inv(k_hat + shift * np.eye(45))
    columns = []
    for column in x.T:
        alpha, r, p = np.zeros(45), column.copy(), inverse @ column
        for _ in range(4):
            z = inverse @ r
            step = (r @ z) / (p @ a @ p) if r.any() else 0.0
            alpha, after = alpha + step * p, r - step * (a @ p)
            p = inverse @ after + (after @ inverse @ after) / (r @ z) * p if r.any() else p
            r = after
        columns.append(alpha)
    for _ in range(4):
        solver.step()
    np.testing.assert_allclose(solver.alpha, np.array(columns).T, atol=1e-8)
    left = x - a @ solver.alpha
    assert solver.residual == pytest.approx(np.linalg.norm(left) / np.linalg.norm(x), rel=1e-6)
    assert solver.iteration == 4


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_any_number_of_workers_and_chunks_solves_the_system(small_blocks: None, world_size: int) -> None:
    train, lam = random_rows(43, 20, 5), 0.6
    k, x = dense(train)
    expected = np.linalg.solve(k + lam * np.trace(k) / 43 * np.eye(43), x)

    def solve(communicator: Sharing) -> np.ndarray:
        shelf = Shelf()
        fit = make_fit(train, None, communicator, shelf, PcgSettings(1e-7, 13))
        _, chosen = fit.fit((lam,), "hr@3")
        return np.hstack([shelf.rows(name, 0, 99) for name in fit.part_names(chosen)])

    np.testing.assert_allclose(np.vstack(crew(world_size, solve)), expected, atol=1e-5)


def make_fit(
    train: Interactions, heldout: Interactions | None, communicator: Sharing, shelf: Shelf, settings: PcgSettings
) -> PcgFit:
    everyone = [share_of(train, _Rank(rank, communicator.world_size)) for rank in range(communicator.world_size)]
    own = None if heldout is None else share_of(heldout, communicator)
    return PcgFit(everyone, own, TrainUsers(train.slice(0, 9)), np.float64, settings, communicator, shelf)


class KeptShelf(Shelf):
    """Keeps checkpoints too, and dies after a while."""

    def __init__(self, lives: float) -> None:
        super().__init__()
        self.lives, self.kept = lives, dict[int, dict[str, np.ndarray]]()

    def newest(self) -> int:
        return max(self.kept, default=0)

    def checkpoint(self, place: int) -> dict[str, np.ndarray]:
        return self.kept[place]

    def keep(self, place: int, arrays: dict[str, np.ndarray]) -> None:
        self.kept[place] = {name: array.copy() for name, array in arrays.items()}
        self.lives -= 1
        if not self.lives:
            raise ConnectionError("dies here")


@pytest.mark.parametrize("lives", [[1], [3, 2], [6, 1, 4]])
def test_a_resumed_fit_ends_with_the_bits_of_an_undisturbed_one(lives: list[int]) -> None:
    """λ chosen on validation and several chunks: it may die in any of them."""
    train, heldout = blocks()

    def run(shelf: KeptShelf) -> tuple[Any, np.ndarray]:
        fit = make_fit(train, heldout, Sharing(), shelf, PcgSettings(1e-10, 8))
        selection, lam = fit.fit((0.5, 2.0), "ndcg@3")
        assert selection is not None
        points = [(point.value, point.metric) for point in selection.points]
        return points, np.hstack([shelf.rows(name, 0, 99) for name in fit.part_names(lam)])

    expected = run(KeptShelf(np.inf))
    shelf = KeptShelf(np.inf)
    for more in lives:
        shelf.lives = more
        with pytest.raises(ConnectionError):
            run(shelf)
    shelf.lives = np.inf
    steps = len(shelf.kept)
    found = run(shelf)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    assert steps == sum(lives)


def test_workers_resume_from_the_newest_checkpoint_that_all_have(small_blocks: None) -> None:
    train = random_rows(40, 15, 6)

    def run(shelves: list[KeptShelf]) -> np.ndarray:
        def work(communicator: Sharing) -> np.ndarray:
            shelf = shelves[communicator.rank]
            fit = make_fit(train, None, communicator, shelf, PcgSettings(1e-9, 99))
            fit.fit((0.4,), "hr@3")
            return shelf.rows(fit.part_names(0.4)[0], 0, 99)

        return np.vstack(crew(2, work))

    undisturbed = [KeptShelf(np.inf) for _ in range(2)]
    expected = run(undisturbed)
    last = sorted(undisturbed[0].kept)
    assert len(last) > 3
    # One worker has finished its part, the other was an iteration behind.
    ahead, behind = KeptShelf(np.inf), KeptShelf(np.inf)
    ahead.kept = {place: undisturbed[0].kept[place] for place in last[-3:]}
    behind.kept = {place: undisturbed[1].kept[place] for place in last[-4:-1]}
    np.testing.assert_array_equal(run([ahead, behind]), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-6)])
def test_predictions_agree_with_the_exact_solver(dtype: str, tolerance: float) -> None:
    train, others = random_rows(600, 60, 7), random_rows(50, 60, 8)
    settings = {"lam": 0.5, "dtype": dtype, "device": "cpu"}
    exact = create_model("infinite_ae", {**settings, "solver": "exact", "dtype": "float64"}).fit(train).score(others)
    found = create_model("infinite_ae", {**settings, "solver": "pcg", "landmarks": 100, "tolerance": tolerance / 10})
    error = np.linalg.norm(found.fit(train).score(others) - exact) / np.linalg.norm(exact)
    assert error < tolerance


def test_lambda_is_chosen_as_the_exact_solver_does() -> None:
    train, heldout = blocks()
    settings = {"grid": (0.5, 2.0, 8.0), "metric": "ndcg@3", "device": "cpu"}
    exact, found = (
        create_model("infinite_ae", {**settings, "solver": solver}).fit(train, heldout) for solver in ("exact", "pcg")
    )
    assert found.selection is not None
    assert exact.selection is not None
    assert found.selection.chosen == exact.selection.chosen
    metrics = [[point.metric for point in model.selection.points] for model in (found, exact) if model.selection]
    np.testing.assert_allclose(metrics[0], metrics[1], atol=5e-3)


def test_no_convergence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcg_fit, "MOST_ITERATIONS", 1)
    with pytest.raises(DasError, match=r"no convergence after 1 iterations .* use a larger lam, more landmarks"):
        create_model("infinite_ae", {"lam": 0.01, "solver": "pcg", "landmarks": 2}).fit(random_rows(50, 30, 9))


def test_users_are_joined_in_order() -> None:
    train = random_rows(10, 12, 10)
    found = Interactions.concatenate([train.slice(0, 3), train.slice(3, 3), train.slice(3, 10)], 12, items_only=True)
    np.testing.assert_array_equal(found.to_csr().toarray(), train.to_csr().toarray())
    assert len(Interactions.concatenate([], 12, items_only=True)) == 0
