"""Values of train rows against finite differences of a loss that is written once more, from its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from distill_kit import grouped

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution.closed_form import row_values
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
    judged = np.flatnonzero(wanted.sum(axis=1))
    found = scores(x, seen[judged], lam)
    errors = (found - wanted[judged]) ** 2 * (1 - seen[judged])
    return float(np.mean(errors.sum(axis=1) / np.maximum(seen[judged].sum(axis=1), 1)))


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
    step = 1e-5
    for k in range(0, train.n_rows, 7):
        user, item = int(found.users[k]), int(found.items[k])
        assert x[user, item] == 1
        sides = []
        for sign in (1, -1):
            moved = x.copy()
            moved[user, item] += sign * step
            sides.append(loss(scores, moved, train, heldout, lam))
        assert -found.values[k] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-9)


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
