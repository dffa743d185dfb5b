"""EASE: the contract, and its closed form against the optimisation problem that defines it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from contract import RecommenderContract, make_rows

from distill_at_scale.models import create_model, ease_dual


class TestEase(RecommenderContract):
    name = "ease"
    settings: ClassVar = {"lam": 2.0}
    open_parameter = "lam"
    small_grid = (1.0, 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "auto"])
def test_weights_solve_each_columns_ridge_regression(dtype: str) -> None:
    rng = np.random.default_rng(0)
    rows = make_rows([sorted(rng.choice(12, rng.integers(1, 9), replace=False)) for _ in range(30)], n_items=12)
    lam = 3.0
    model = create_model("ease", {"lam": lam, "dtype": dtype}).fit(rows)
    x = rows.to_csr(dtype=np.float64).toarray()
    expected = np.zeros((12, 12))
    for item in range(12):  # the item's column from all other items, which is what a zero diagonal means
        others = [i for i in range(12) if i != item]
        a = x[:, others]
        expected[others, item] = np.linalg.solve(a.T @ a + lam * np.eye(11), a.T @ x[:, item])
    np.testing.assert_allclose(model.score(rows), x @ expected, atol=1e-5)


def test_more_items_than_a_block() -> None:
    """The Gram matrix and the mirrored inverse are made in blocks of 512 items."""
    rng = np.random.default_rng(1)
    rows = make_rows([sorted(rng.choice(1100, 40, replace=False)) for _ in range(60)], n_items=1100)
    scores = create_model("ease", {"lam": 5.0}).fit(rows).score(rows)
    x = rows.to_csr(dtype=np.float64).toarray()
    p = np.linalg.inv(x.T @ x + 5.0 * np.eye(1100))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0.0)
    np.testing.assert_allclose(scores, x @ b, atol=1e-4)


def test_items_without_rows_stay_without_weights() -> None:
    """They are left out of the inverse, which must not show: every pair's weight is that of the whole matrix."""
    rng = np.random.default_rng(2)
    live = np.array([1, 2, 5, 8, 9])
    rows = make_rows([sorted(rng.choice(live, 3, replace=False)) for _ in range(20)], n_items=11)
    x = rows.to_csr(dtype=np.float64).toarray()
    p = np.linalg.inv(x.T @ x + 2.0 * np.eye(11))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0.0)
    every = make_rows([[i] for i in range(11)], n_items=11)
    np.testing.assert_allclose(create_model("ease", {"lam": 2.0}).fit(rows).score(every), b, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "auto"])
def test_few_users_have_the_solution_of_many(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer users than items the search runs on a users × users matrix, and must not show it."""
    rng = np.random.default_rng(4)
    users = [sorted(rng.choice(90, rng.integers(2, 20), replace=False)) for _ in range(40)]
    rows = make_rows([[] if k % 5 == 0 else items[:-1] for k, items in enumerate(users)], n_items=100)
    heldout = make_rows([items[-1:] for items in users], n_items=100)
    settings = {"dtype": dtype, "grid": (2.0, 5.0, 10.0)}
    few = create_model("ease", settings).fit(rows, heldout)
    fixed = create_model("ease", {"dtype": dtype, "lam": 5.0}).fit(rows)
    monkeypatch.setattr(ease_dual.TrainRows, "suit", lambda *of: False)
    many = create_model("ease", settings).fit(rows, heldout)
    every = make_rows([[i] for i in range(100)], n_items=100)
    np.testing.assert_allclose(few.score(every), many.score(every), atol=2e-6)
    np.testing.assert_allclose(
        fixed.score(every), create_model("ease", {"dtype": dtype, "lam": 5.0}).fit(rows).score(every), atol=2e-6
    )
    assert few.selection is not None
    assert many.selection is not None
    assert few.selection.chosen == many.selection.chosen
    found = [[point.metric for point in one.selection.points] for one in (few, many)]
    np.testing.assert_allclose(*found, atol=1e-9)
