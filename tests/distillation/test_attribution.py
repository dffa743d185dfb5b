"""Values of train rows against finite differences of a loss that is written once more, from its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from distill_kit import grouped, interactions

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution.closed_form import row_values
from distill_at_scale.errors import DasError
from distill_at_scale.models.kernel.ntk import BIAS_VARIANCE, WEIGHT_VARIANCE, ntk


def ease_scores(x: np.ndarray, inputs: np.ndarray, lam: float) -> np.ndarray:
    inverse = np.linalg.inv(x.T @ x + lam * np.eye(x.shape[1]))
    weights = -inverse / np.diagonal(inverse)
    np.fill_diagonal(weights, 0.0)
    return inputs @ weights


def infinite_ae_scores(x: np.ndarray, inputs: np.ndarray, lam: float) -> np.ndarray:
    rows, some, items = torch.from_numpy(x), torch.from_numpy(inputs), x.shape[1]
    norms, own = rows.square().sum(1), some.square().sum(1)
    kernel = ntk(rows @ rows.T, norms, norms, items)
    diagonal = 2 * (WEIGHT_VARIANCE / items * norms + BIAS_VARIANCE) + BIAS_VARIANCE
    kernel.diagonal().copy_(diagonal + lam * diagonal.mean())
    solved = torch.linalg.solve(kernel, rows)
    return (ntk(some @ rows.T, own, norms, items) @ solved).numpy()


def loss(
    scores: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
    x: np.ndarray,
    train: Interactions,
    heldout: Interactions,
    lam: float,
) -> float:
    seen, wanted = train.to_csr().toarray().astype(float), heldout.to_csr().toarray().astype(float)
    filled = seen.sum(axis=1) > 0
    judged = np.flatnonzero((wanted.sum(axis=1) > 0) & filled)
    found = scores(x[filled], seen[judged], lam)
    errors = (found - wanted[judged]) ** 2 * (1 - seen[judged])
    return float(np.mean(errors.sum(axis=1) / np.maximum(seen[judged].sum(axis=1), 1)))


@pytest.mark.parametrize("model", ["ease", "infinite_ae"])
def test_users_without_train_rows_change_nothing(model: str) -> None:
    """As in a fit: of a sample of users nine in ten have none."""
    train, heldout = grouped(25, 14)
    rows = [train.items[a:b] for a, b in zip(train.offsets, train.offsets[1:])]
    held = [heldout.items[a:b] for a, b in zip(heldout.offsets, heldout.offsets[1:])]
    cold = [np.empty(0, np.int32)] * 40
    with_cold = row_values(
        model, interactions([*cold, *rows], 14), interactions([*held[:20], *cold[:20], *held], 14), 2.0
    )
    without = row_values(model, train, heldout, 2.0)
    np.testing.assert_allclose(with_cold.values, without.values, rtol=1e-9)
    assert with_cold.loss == pytest.approx(without.loss)
    np.testing.assert_array_equal(with_cold.users, without.users + 40)
    with pytest.raises(DasError, match="no user has both"):
        row_values(model, interactions([*cold[:25], *rows], 14), interactions([*held, *cold[:25]], 14), 2.0)


@pytest.mark.parametrize(
    ("model", "scores", "lam"), [("ease", ease_scores, 3.0), ("infinite_ae", infinite_ae_scores, 0.3)]
)
def test_values_are_exact_gradients(
    model: str, scores: Callable[[np.ndarray, np.ndarray, float], np.ndarray], lam: float
) -> None:
    train, heldout = grouped(25, 14)
    # A user without validation rows is not judged, but has rows.
    keep = np.arange(len(heldout.items)) >= heldout.offsets[1]
    heldout = Interactions(
        heldout.users, np.maximum(heldout.offsets - heldout.offsets[1], 0), heldout.items[keep], heldout.n_items
    )
    found = row_values(model, train, heldout, lam)
    x = train.to_csr(dtype=np.float64).toarray()
    assert found.loss == pytest.approx(loss(scores, x, train, heldout, lam), rel=1e-9)
    assert len(found.values) == train.n_rows
    for k in range(0, train.n_rows, 7):
        user, item = int(found.users[k]), int(found.items[k])
        assert x[user, item] == 1

        def slope(step: float, user: int = user, item: int = item) -> float:
            sides = []
            for sign in (1, -1):
                moved = x.copy()
                moved[user, item] += sign * step
                sides.append(loss(scores, moved, train, heldout, lam))
            return (sides[0] - sides[1]) / (2 * step)

        # The kernel of a user's row and the same user's history has a kink where both are equal, so that the error of
        # a slope is proportional to the step.
        exact = 2 * slope(1e-4) - slope(2e-4)
        assert -found.values[k] == pytest.approx(exact, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("model", "scores", "lam"), [("ease", ease_scores, 30.0), ("infinite_ae", infinite_ae_scores, 1.0)]
)
def test_dropping_rows_does_what_their_values_say(
    model: str, scores: Callable[[np.ndarray, np.ndarray, float], np.ndarray], lam: float
) -> None:
    """Without the worst twentieth of the rows the loss falls, without the best one it rises."""
    train, heldout = grouped(200, 30, seed=3)
    found = row_values(model, train, heldout, lam)
    order = np.argsort(found.values)
    losses = []
    for gone in (order[: len(order) // 20], order[-(len(order) // 20) :]):
        x = train.to_csr(dtype=np.float64).toarray()
        x[found.users[gone], found.items[gone]] = 0
        losses.append(loss(scores, x, train, heldout, lam))
    assert losses[0] < found.loss < losses[1]
