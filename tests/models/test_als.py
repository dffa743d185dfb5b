"""iALS: the contract, and its half steps and folding in against dense normal equations."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from contract import blocks, make_rows
from crew_kit import crew, random_rows, source_of
from torch_kit import TorchContract

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model, load_model
from distill_at_scale.models.als import Als, AlsConfig
from distill_at_scale.models.training import least_squares
from distill_at_scale.models.training.alternating import AlternatingFit
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import MemorySource
from distill_at_scale.models.training.streamed import NotResumable

sys.path.insert(0, str(Path(__file__).parents[1] / "distillation"))
from distill_kit import signs_of_machines

CPU = torch.device("cpu")


class TestAls(TorchContract):
    name = "als"
    settings: ClassVar = {"dim": 4, "lam": 0.01, "epochs": 8, "device": "cpu"}
    open_parameter = "lam"
    small_grid = (0.01, 0.1)

    def test_choosing_epochs_on_validation_is_recorded(self) -> None:
        pytest.skip("λ is chosen, epochs are not")


def dense_half_step(
    x: np.ndarray,
    others: np.ndarray,
    lam: float,
    alpha: float,
    exponent: float,
    n_others: float,
    counted: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Each row's optimum given the others' vectors, from its normal equations with one weight a pair, in float64; the
    others count as often as ``counted`` says."""
    solved = np.zeros((len(x), others.shape[1]))
    for k, row in enumerate(x):
        if row.any():
            weights = np.diag(row + alpha * counted)
            ridge = lam * (row.sum() + alpha * n_others) ** exponent * np.eye(others.shape[1])
            solved[k] = np.linalg.solve(others.T @ weights @ others + ridge, others.T @ row)
    return solved


def steps(rows: Interactions, n_epochs: int, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Item vectors before and after some epochs, float32 [n_items, dim]."""
    fits = []
    for epochs in (0, n_epochs):
        config = AlsConfig(**{"lam": 0.05, "dim": 6, "alpha": 0.1, **settings}).model_copy(update={"epochs": epochs})
        fit = AlternatingFit(config, MemorySource(rows, None), Communicator(), CPU, NotResumable())
        fits.append(fit.item_vectors(0.05)[:-1].double().numpy())
    return fits[0], fits[1]


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("without_rows", [0, 1, 2])
@pytest.mark.parametrize("block", [None, 6])
def test_an_epoch_solves_both_sides_normal_equations(exponent: float, without_rows: int, block: int | None) -> None:
    """Also where most items have no rows, before the first, between two and after the last that has some; by a worker
    that holds all rows, and by one that streams them."""
    rows = random_rows(40, 15, seed=0, least=0)
    n_items = 15 * (without_rows + 1)
    rows = replace(rows, items=rows.items * (without_rows + 1) + min(without_rows, 1), n_items=n_items)
    x = rows.to_csr(dtype=np.float64).toarray()
    before, after = steps(rows, 1, exponent=exponent, block=block)
    n_users = int((x.sum(1) > 0).sum())
    users = dense_half_step(x, before, 0.05, 0.1, exponent, n_items)
    items = dense_half_step(x.T, users, 0.05, 0.1, exponent, n_users)
    # The vectors are rotated, which changes no product of two.
    np.testing.assert_allclose(after @ after.T, items @ items.T, atol=2e-5)


@pytest.mark.parametrize("exponent", [0.6, 1.0])
@pytest.mark.parametrize("block", [None, 6])
def test_an_epoch_with_weights_of_rows_solves_the_weighted_equations(exponent: float, block: int | None) -> None:
    rows = random_rows(40, 15, seed=0, least=0)
    weights = np.random.default_rng(0).uniform(0.5, 8, rows.n_rows).astype(np.float32)
    w = replace(rows, weights=weights).to_csr("weight", dtype=np.float64).toarray() / weights.mean(dtype=float)
    for scale in (1.0, 10.0):  # only their ratios count
        before, after = steps(replace(rows, weights=weights * np.float32(scale)), 1, exponent=exponent, block=block)
        users = dense_half_step(w, before, 0.05, 0.1, exponent, 15)
        items = dense_half_step(w.T, users, 0.05, 0.1, exponent, int((w.sum(1) > 0).sum()))
        np.testing.assert_allclose(after @ after.T, items @ items.T, atol=2e-5)


@pytest.mark.parametrize("exponent", [0.6, 1.0])
@pytest.mark.parametrize("block", [None, 6])
def test_an_epoch_with_weights_of_users_counts_users_as_a_whole(exponent: float, block: int | None) -> None:
    rows = random_rows(40, 15, seed=0, least=0)
    x = rows.to_csr(dtype=np.float64).toarray()
    of_users = np.random.default_rng(0).uniform(0.5, 8, 40).astype(np.float32)
    weights = np.repeat(of_users, rows.counts)
    counted = of_users.astype(float) / weights.mean(dtype=float) * (x.sum(1) > 0)
    before, after = steps(replace(rows, weights=weights), 1, exponent=exponent, block=block)
    users = dense_half_step(x, before, 0.05, 0.1, exponent, 15)
    items = dense_half_step(x.T * counted, users, 0.05, 0.1, exponent, counted.sum(), counted)
    np.testing.assert_allclose(after @ after.T, items @ items.T, atol=2e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_are_solved_one_after_another(weighted: bool) -> None:
    rows = random_rows(40, 15, seed=1)
    x = rows.to_csr(dtype=np.float64).toarray()
    if weighted:
        weights = np.random.default_rng(1).uniform(0.5, 8, rows.n_rows).astype(np.float32)
        rows = replace(rows, weights=weights)
        x = rows.to_csr("weight", dtype=np.float64).toarray() / weights.mean(dtype=float)
    before, after = steps(rows, 1, block=4)
    users = dense_half_step(x, before, 0.05, 0.1, 1.0, 15)
    items = before.copy()
    for i in range(15):
        weights = np.diag(x[:, i] + 0.1)
        ridge = 0.05 * (x[:, i].sum() + 0.1 * 40)
        for block in (slice(0, 4), slice(4, 6)):
            others = np.setdiff1d(np.arange(6), np.arange(6)[block])
            rest = x[:, i] - (x[:, i] + 0.1) * (users[:, others] @ items[i, others])
            system = users[:, block].T @ weights @ users[:, block] + ridge * np.eye(block.stop - block.start)
            items[i, block] = np.linalg.solve(system, users[:, block].T @ rest)
    np.testing.assert_allclose(after @ after.T, items @ items.T, atol=2e-5)


def objective(x: np.ndarray, users: np.ndarray, items: np.ndarray, lam: float, alpha: float) -> float:
    scores = users @ items.T
    fit = (x * (scores - 1) ** 2).sum() + alpha * np.square(scores).sum()
    of_users, of_items = x.sum(1) + alpha * x.shape[1], x.sum(0) + alpha * len(x)
    return float(fit + lam * (of_users @ np.square(users).sum(1) + of_items @ np.square(items).sum(1)))


@pytest.mark.parametrize("block", [None, 2])
def test_every_epoch_lowers_the_objective(block: int | None) -> None:
    rows = random_rows(50, 20, seed=2)
    x = rows.to_csr(dtype=np.float64).toarray()
    values = []
    for epochs in range(1, 6):
        _, items = steps(rows, epochs, block=block)
        values.append(objective(x, dense_half_step(x, items, 0.05, 0.1, 1.0, 20), items, 0.05, 0.1))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.99 * values[0]


def test_users_are_folded_in_by_their_normal_equations() -> None:
    rows = random_rows(40, 15, seed=3)
    strangers = make_rows([[0], [1, 5, 9], list(range(12)), []], n_items=15, first_user=10**6)
    model = create_model("als", {"dim": 6, "lam": 0.05, "alpha": 0.1, "device": "cpu"}).fit(rows)
    items = model._weights()["items"].astype(np.float64)
    expected = dense_half_step(strangers.to_csr().toarray(), items, 0.05, 0.1, 1.0, 15) @ items.T
    np.testing.assert_allclose(model.score(strangers), expected, atol=1e-5)


def test_owners_with_many_rows_are_added_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(60, 12, seed=4)
    whole = steps(rows, 1, block=6)[1]
    monkeypatch.setattr(least_squares, "_MOST_ROWS", 7)
    monkeypatch.setattr(least_squares, "_GROUP_NUMBERS", 100)
    np.testing.assert_allclose(steps(rows, 1, block=6)[1] @ whole.T, whole @ whole.T, atol=1e-4)


@pytest.mark.parametrize(
    ("world_size", "block", "weighted"), [(2, None, ""), (3, 2, ""), (3, 2, "rows"), (2, 4, "users")]
)
def test_several_workers_fit_what_one_fits(world_size: int, block: int | None, weighted: str) -> None:
    train = random_rows(60, 20, seed=5, least=0)
    heldout = make_rows([[(user * 7) % 20] for user in range(60)], n_items=20)
    settings = {"dim": 4, "grid": (0.01, 0.1), "epochs": 3, "block": block, "device": "cpu", "weights": bool(weighted)}
    if weighted:
        drawn = np.random.default_rng(5).uniform(0.5, 8, train.n_rows).astype(np.float32)
        train = replace(
            train, weights=drawn if weighted == "rows" else drawn[np.repeat(train.offsets[:-1], train.counts)]
        )
    alone = create_model("als", settings).fit(train, heldout)

    def work(communicator: Any) -> Als:
        model = create_model("als", settings)
        assert isinstance(model, Als)
        source = source_of(train, heldout, communicator)
        model.fit_source(source, communicator, CPU)
        model.adopt(source, None)
        return model

    # The workers may be machines of different kinds.
    with signs_of_machines():
        found = crew(world_size, work)
    for model in found:
        assert model.selection is not None
        assert alone.selection is not None
        assert model.selection.chosen == alone.selection.chosen
        np.testing.assert_allclose(model.score(train), alone.score(train), atol=1e-3)


class _Noted(NotResumable):
    def __init__(self, dies_at: int) -> None:
        self.states: dict[str, tuple[int, torch.Tensor]] = {}
        self.dies_at, self.n_passes = dies_at, 0

    def read(self, name: str) -> tuple[int, torch.Tensor] | None:
        return self.states.get(name)

    def write(self, name: str, passes: int, state: torch.Tensor) -> None:
        self.n_passes += 1
        self.states[name] = (passes, state.clone())
        if self.n_passes == self.dies_at:
            raise InterruptedError


@pytest.mark.parametrize(("unseen", "alpha"), [(2.0, None), (1e6, 1.0)])
def test_unseen_pairs_weigh_in_proportion_to_the_rows(unseen: float, alpha: float | None, tmp_path: Path) -> None:
    train, _ = blocks()
    if alpha is None:
        present = train.to_csr() > 0
        alpha = unseen * present.sum() / (np.count_nonzero(present.sum(axis=1)) * train.n_items)
    settings = {"dim": 4, "lam": 0.05, "device": "cpu"}
    expected = create_model("als", {**settings, "alpha": alpha}).fit(train).score(train)
    model = create_model("als", {**settings, "unseen": unseen}).fit(train)
    np.testing.assert_allclose(model.score(train), expected, rtol=1e-6, atol=1e-7)
    model.save(str(tmp_path / "als"))
    np.testing.assert_array_equal(load_model(str(tmp_path / "als")).score(train), model.score(train))


def test_a_fit_that_was_stopped_goes_on_with_the_same_bits() -> None:
    train, heldout = blocks()
    settings = {"dim": 4, "alpha": 0.1, "grid": (0.01, 0.1), "epochs": 3, "device": "cpu"}
    expected = create_model("als", settings).fit(train, heldout)
    noted = _Noted(dies_at=4)
    for _ in range(2):
        model = create_model("als", settings)
        assert isinstance(model, Als)
        source = MemorySource(train, heldout)
        try:
            model.fit_source(source, Communicator(), CPU, resumable=noted)
        except InterruptedError:
            noted.dies_at = -1
    model.adopt(source, None)
    assert noted.n_passes < 7 + 3 * 6  # nothing was done twice
    np.testing.assert_array_equal(model.score(train), expected.score(train))
    assert expected.selection is not None
    assert model.selection is not None
    assert [p.metric for p in model.selection.points] == [p.metric for p in expected.selection.points]
