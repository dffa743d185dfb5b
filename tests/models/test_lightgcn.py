"""LightGCN: the contract, and its smoothing against dense matrices."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import blocks, make_rows
from torch_kit import TorchContract

from distill_at_scale.models import create_model
from distill_at_scale.models.lightgcn import normalised_adjacency, propagate, unseen_softmax


class TestLightGCN(TorchContract):
    name = "lightgcn"
    settings: ClassVar = {
        "dim": 8,
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.03,
        "device": "cpu",
    }


class TestSampled(TorchContract):
    name = "lightgcn"
    settings: ClassVar = {
        "loss": "sampled",
        "dim": 8,
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 0.03,
        "negatives": 4,
        "device": "cpu",
    }


def test_full_loss_is_a_softmax_over_the_row_and_what_the_user_lacks() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    rows = [[0, 3], [4], [0, 1, 2, 3, 4]]
    pairs = [(u, i) for u, items in enumerate(rows) for i in items]
    slow = torch.zeros((), dtype=torch.float64)
    for u, i in pairs:
        against = sum(scores[u, j].exp() for j in range(5) if j == i or j not in rows[u])
        slow = slow - (scores[u, i].exp() / against).log()
    (expected,) = torch.autograd.grad(slow, scores)
    owner, item = torch.tensor(pairs).T
    found = unseen_softmax(scores, owner, item)
    assert found.item() == pytest.approx(slow.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, scores)
    np.testing.assert_allclose(gradient.numpy(), expected.numpy(), atol=1e-6)


def test_memory_counts_the_scores_of_all_items() -> None:
    full, sampled = (create_model("lightgcn", {"loss": loss}) for loss in ("full", "sampled"))
    more = [model.memory_needed(10, 10**6, 0, model.config) for model in (full, sampled)]
    assert more[0] - more[1] > 4 * 512 * 10**6


def dense_adjacency(rows: list[list[int]], n_items: int) -> np.ndarray:
    """D^-1/2 A D^-1/2, entry by entry."""
    n_users = len(rows)
    a = np.zeros((n_users + n_items,) * 2)
    for u, items in enumerate(rows):
        for i in items:
            a[u, n_users + i] = a[n_users + i, u] = 1
    degree = np.maximum(a.sum(axis=1), 1)
    return np.array([[a[r, c] / np.sqrt(degree[r] * degree[c]) for c in range(len(a))] for r in range(len(a))])


def test_smoothing_and_its_gradient_equal_the_dense_ones() -> None:
    rows = [[0, 2, 2], [1, 2, 3], [], [3]]
    sparse = normalised_adjacency(make_rows(rows, n_items=5), 4)
    dense = dense_adjacency(rows, 5)
    np.testing.assert_allclose(sparse.to_dense().numpy(), dense, atol=1e-7)
    torch.manual_seed(0)
    vectors = torch.randn(9, 3, requires_grad=True)
    weights = torch.randn(9, 3)
    found = propagate(sparse, vectors, 2)
    smoother = (np.eye(9) + dense + dense @ dense) / 3
    np.testing.assert_allclose(found.detach().numpy(), smoother @ vectors.detach().numpy(), atol=1e-6)
    (gradient,) = torch.autograd.grad((found * weights).sum(), vectors)
    np.testing.assert_allclose(gradient.numpy(), smoother.T @ weights.numpy(), atol=1e-6)


def test_scores_are_those_of_the_smoothed_vectors() -> None:
    train, _ = blocks()
    model = create_model("lightgcn", {"dim": 4, "layers": 2, "epochs": 3, "device": "cpu"}).fit(train)
    w = model._weights()
    rows = [train.items[a:b].tolist() for a, b in zip(train.offsets[:-1], train.offsets[1:])]
    dense = dense_adjacency(rows, train.n_items)
    smooth = (w["vectors"] + dense @ w["vectors"] + dense @ dense @ w["vectors"]) / 3
    expected = smooth[: len(train)] @ smooth[len(train) :].T
    # The last user has no rows, and is folded in.
    np.testing.assert_allclose(model.score(train)[:-1], expected[:-1], atol=1e-5)


def test_memory_counts_the_graph() -> None:
    model = create_model("lightgcn")
    few, many = (model.memory_needed(10, 10, rows, model.config) for rows in (0, 10**6))
    assert many - few > 10**6 * 2 * 16
    assert few == pytest.approx(model.memory_needed(10, 10, 0, model.config))
