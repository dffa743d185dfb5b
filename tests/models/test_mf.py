"""MF and bias-only: the contract, their scores and losses, and how strangers are folded in."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import make_rows
from torch_kit import TorchContract

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation import evaluate
from distill_at_scale.models import create_model
from distill_at_scale.models.training.user_table import sampled_softmax


class TestMF(TorchContract):
    name = "mf"
    settings: ClassVar = {
        "dim": 8,
        "epochs": 40,
        "batch_size": 64,
        "learning_rate": 0.03,
        "weight_decay": 0.002,
        "negatives": 4,
        "device": "cpu",
    }


class TestBias(TorchContract):
    name = "bias"
    personal = False
    settings: ClassVar = {"epochs": 5, "batch_size": 64, "learning_rate": 0.05, "device": "cpu"}


def rated(n_users: int = 60, n_items: int = 30, seed: int = 0) -> tuple[Interactions, Interactions, np.ndarray]:
    """Ratings 3 + b_u + b_i + p_u q_i without noise: 80 % of all pairs, the rest, and the whole."""
    rng = np.random.default_rng(seed)
    truth = 3 + rng.normal(0, 0.5, (n_users, 1)) + rng.normal(0, 0.5, n_items)
    truth = truth + rng.normal(0, 0.7, (n_users, 1)) * rng.normal(0, 0.7, n_items)
    mask = rng.random(truth.shape) < 0.8

    def rows(chosen: np.ndarray) -> Interactions:
        users, items = np.nonzero(chosen)
        offsets = np.searchsorted(users, np.arange(n_users + 1))
        ratings = truth[chosen].astype(np.float32)
        return Interactions(np.arange(n_users), offsets, items.astype(np.int32), n_items, ratings)

    return rows(mask), rows(~mask), truth


EXPLICIT = {"objective": "explicit", "metric": "mse", "batch_size": 128, "learning_rate": 0.03, "device": "cpu"}


def test_ratings_are_learned_and_the_best_epoch_has_the_least_error() -> None:
    train, heldout, truth = rated()
    errors = {}
    for name, settings in (("bias", {}), ("mf", {"dim": 2})):
        model = create_model(name, {**EXPLICIT, **settings, "epochs": 40}).fit(train, heldout)
        assert model.selection is not None
        best = min(model.selection.points, key=lambda point: point.metric)
        assert model.selection.chosen == best.value
        errors[name] = best.metric
        result = evaluate(model.score, train, heldout, train.item_counts(), train.n_rows, (10,), ratings=True)
        assert result.metrics["mse"] == pytest.approx(best.metric, rel=1e-5)
    assert errors["mf"] < 0.05 < errors["bias"] < 0.5 < np.var(truth)


def test_strangers_ratings_are_predicted_from_their_own() -> None:
    train, _, truth = rated(90)
    known, strangers = train.slice(0, 70), train.slice(70, 90)
    model = create_model("mf", {**EXPLICIT, "dim": 2, "epochs": 40}).fit(known)
    found = np.square(model.score(strangers) - truth[70:]).mean()
    nothing_known = np.square(truth[70:] - truth[:70].mean(axis=0)).mean()
    assert found < nothing_known / 2


def test_ranking_loss_is_bpr_for_one_item_drawn() -> None:
    scores = torch.tensor([[1.0, 0.5], [-2.0, 3.0], [0.3, 0.2]])
    seen = torch.tensor([[False], [False], [True]])  # the third item drawn is no negative after all
    slow = sum(-np.log(1 / (1 + np.exp(-(s[0] - s[1])))) for s in scores[:2].tolist())
    assert sampled_softmax(scores, seen).item() == pytest.approx(slow, rel=1e-6)


def test_ranking_loss_is_a_softmax_over_the_unseen() -> None:
    rng = np.random.default_rng(0)
    scores, seen = rng.normal(size=(5, 4)), rng.random((5, 3)) < 0.4
    slow = 0.0
    for row, hidden in zip(scores, seen):
        others = sum(np.exp(s) for s, h in zip(row[1:], hidden) if not h)
        slow -= np.log(np.exp(row[0]) / (np.exp(row[0]) + others))
    found = sampled_softmax(torch.from_numpy(scores), torch.from_numpy(seen))
    assert found.item() == pytest.approx(slow, rel=1e-6)


def test_scores_are_dot_products_and_biases() -> None:
    rows = make_rows([[0, 1], [1, 2]], n_items=3)
    model = create_model("mf", {"dim": 2, "epochs": 2, "device": "cpu"}).fit(rows)
    w = model._weights()
    for u in range(2):
        for i in range(3):
            dot = sum(w["user"][u, k] * w["item"][i, k] for k in range(2))
            expected = w["mean"][0] + dot + w["user"][u, 2] + w["item"][i, 2]
            assert model.score(rows)[u, i] == pytest.approx(expected, abs=1e-6)
