"""Fits on rows with weights: beside plain sums and repeated users, other models as without; what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import make_rows

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.models import create_model, ease_dual

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset

RNG = np.random.default_rng(0)
N = 9
ROWS = make_rows([sorted(RNG.choice(N, RNG.integers(1, 7), replace=False)) for _ in range(40)], n_items=N)
OF_USERS = np.repeat(RNG.uniform(0.5, 8, 40), ROWS.counts).astype(np.float32)
OF_ROWS = RNG.uniform(0.5, 8, ROWS.n_rows).astype(np.float32)
EVERY = make_rows([[i] for i in range(N)], n_items=N)


def weighted(weights: np.ndarray, rows: Interactions = ROWS) -> Interactions:
    return replace(rows, weights=weights)


def ease_of(gram: np.ndarray, lam: float) -> np.ndarray:
    p = np.linalg.inv(gram + lam * np.eye(len(gram)))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0.0)
    return b


@pytest.mark.parametrize("weights", [OF_USERS, OF_ROWS], ids=["users", "rows"])
def test_popularity_sums_weights(weights: np.ndarray) -> None:
    expected = np.zeros(N)
    for item, weight in zip(ROWS.items, weights):
        expected[item] += weight
    model = create_model("popularity", {"weights": True}).fit(weighted(weights))
    np.testing.assert_allclose(model.score(EVERY)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [OF_USERS, OF_ROWS], ids=["users", "rows"])
@pytest.mark.parametrize("few", [False, True])
def test_ease_solves_the_weighted_gram_matrix(weights: np.ndarray, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Σ_u w_u x_u x_uᵀ of users; of rows √(w_ui w_uj) for the items i and j of a user."""
    monkeypatch.setattr(ease_dual.TrainRows, "suit", lambda *of: few)
    gram = np.zeros((N, N))
    for k in range(len(ROWS)):
        first, last = ROWS.offsets[k], ROWS.offsets[k + 1]
        for i, w in zip(ROWS.items[first:last], weights[first:last]):
            for j, v in zip(ROWS.items[first:last], weights[first:last]):
                gram[i, j] += np.sqrt(float(w) * v)
    expected = ease_of(gram / weights.mean(dtype=float), 3.0)
    settings = {"lam": 3.0, "weights": True}
    np.testing.assert_allclose(create_model("ease", settings).fit(weighted(weights)).score(EVERY), expected, atol=2e-6)
    tenfold = create_model("ease", settings).fit(weighted(10 * weights)).score(EVERY)
    np.testing.assert_allclose(tenfold, expected, atol=2e-6)


def test_the_search_for_lambda_with_weights_is_the_same_for_few_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation scores are of histories without weights in both forms, also where a user's weights differ."""
    users = [sorted(RNG.choice(60, RNG.integers(3, 15), replace=False)) for _ in range(25)]
    rows, heldout = make_rows([u[:-1] for u in users], n_items=60), make_rows([u[-1:] for u in users], n_items=60)
    rows = weighted(RNG.uniform(0.2, 9, rows.n_rows).astype(np.float32), rows)
    settings = {"grid": (1.0, 4.0, 16.0), "weights": True}
    found = []
    for few in (True, False):
        monkeypatch.setattr(ease_dual.TrainRows, "suit", lambda *of, few=few: few)
        found.append(create_model("ease", settings).fit(rows, heldout))
    points = [[point.metric for point in model.selection.points] for model in found if model.selection]
    np.testing.assert_allclose(*points, atol=1e-9)
    every = make_rows([[i] for i in range(60)], n_items=60)
    np.testing.assert_allclose(found[0].score(every), found[1].score(every), atol=2e-6)


FACTORS: dict[str, dict[str, Any]] = {
    "als": {"dim": 4, "lam": 0.05, "device": "cpu"},
    "elsa": {"dim": 4, "epochs": 3, "batch_size": 512, "learning_rate": 0.1, "device": "cpu"},
}
"""Settings of models of factors; ELSA has one batch."""


@pytest.mark.parametrize("name", list(FACTORS))
def test_a_user_of_twice_the_weight_is_two_users(name: str) -> None:
    """Without an initialisation that depends on the scale of the weights, ALS would need no passes to agree."""
    often = RNG.integers(1, 4, len(ROWS))
    settings = {**FACTORS[name], "weights": True} | ({"epochs": 40} if name == "als" else {})
    repeated = make_rows([ROWS.items[ROWS.offsets[k] : ROWS.offsets[k + 1]] for k in np.repeat(range(40), often)], N)
    model = create_model(name, settings).fit(weighted(np.repeat(often, ROWS.counts).astype(np.float32)))
    expected = create_model(name, settings).fit(repeated).score(EVERY)
    np.testing.assert_allclose(model.score(EVERY), expected, atol=2e-4)
    assert np.abs(create_model(name, settings).fit(ROWS).score(EVERY) - expected).max() > 2e-3


def test_elsa_counts_a_user_by_the_mean_weight_of_the_rows() -> None:
    settings = {**FACTORS["elsa"], "weights": True}
    owners = np.repeat(np.arange(40), ROWS.counts)
    mean = np.array([OF_ROWS[owners == k].mean(dtype=float) for k in range(40)], np.float32)
    found = [create_model("elsa", settings).fit(weighted(w)).score(EVERY) for w in (OF_ROWS, mean[owners])]
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.parametrize("name", list(FACTORS))
def test_weights_of_a_dataset_are_those_of_its_rows(name: str, tmp_path: Path) -> None:
    # Batches do not cross shards.
    users = [(0, 1, 2, 3, 4)] if name == "elsa" else [(0, 1, 2), (3, 4)]
    shards = [[(u, i, 1.0, i, 0) for u in some for i in range(N) if (u * i) % 3 != 1] for some in users]
    weights = [list(RNG.uniform(0.5, 8, len(rows))) for rows in shards]
    dataset = write_dataset(tmp_path / "data", shards, [len(some) for some in users], N, weights=weights)
    rows, plain = dataset.interactions("train", weights=True), dataset.interactions("train")
    model = create_model(name, {**FACTORS[name], "weights": True})
    found = [model.fit(data).score(rows) for data in (dataset, rows, plain)]
    np.testing.assert_allclose(*found[:2], atol=1e-5)
    assert np.abs(found[1] - found[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "settings"),
    [("popularity", {}), ("ease", {"lam": 2.0}), ("svd_ae", {"rank": 3}), *FACTORS.items()],
)
def test_weights_that_are_not_asked_for_change_nothing(name: str, settings: dict[str, float]) -> None:
    found = [create_model(name, settings).fit(rows).score(EVERY) for rows in (ROWS, weighted(OF_ROWS))]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["popularity", "ease"])
def test_equal_weights_are_no_weights(name: str) -> None:
    equal = weighted(np.full(ROWS.n_rows, 2.5, np.float32))
    lam = {"lam": 2.0} if name == "ease" else {}
    found = [create_model(name, {"weights": True, **lam}).fit(rows).score(EVERY) for rows in (ROWS, equal)]
    np.testing.assert_allclose(found[0] * (2.5 if name == "popularity" else 1), found[1], rtol=1e-6)


@pytest.mark.parametrize("name", list(FACTORS))
@pytest.mark.parametrize("block", [None, 4])
def test_weights_of_one_change_no_bit(name: str, block: int | None) -> None:
    settings = FACTORS[name] | ({"block": block} if name == "als" else {})
    plain = create_model(name, settings).fit(ROWS)
    model = create_model(name, {**settings, "weights": True}).fit(weighted(np.ones(ROWS.n_rows, np.float32)))
    np.testing.assert_array_equal(model._weights()["items"], plain._weights()["items"])


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, np.inf])
def test_weights_that_are_not_positive_are_refused(bad: float, tmp_path: Path) -> None:
    weights = OF_ROWS.copy()
    weights[3] = bad
    with pytest.raises(DasError, match=r"popularity: 1 weight is not a positive number; the first, of row 3, is"):
        create_model("popularity").fit(weighted(weights))
    rows = [(user, item, 1.0, item, item % 2) for user in range(3) for item in range(4)]
    dataset = write_dataset(tmp_path / "data", [rows], [3], 4, weights=[[1.0] * 11 + [bad]])
    for name, settings in (("popularity", {}), ("ease", {"lam": 1.0})):
        with pytest.raises(DamagedFileError, match=r"part-00000.*not a positive number; the first, of row 11"):
            create_model(name, {"weights": True, **settings}).fit(dataset)
        # Who does not use them does not read them.
        assert create_model(name, settings).fit(dataset).n_items == 4


def test_a_manifest_that_promises_weights_without_a_column_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", [[(0, 0, 1.0, 0, 0)]], [1], 1, weight_meaning="1/p")
    with pytest.raises(DamagedFileError, match="no column weight of type float"):
        dataset.interactions("train", weights=True)


def test_datasets_with_and_without_weights(tmp_path: Path) -> None:
    shards = [[(u, i, 1.0, i, i % 3) for u in users for i in range(6)] for users in ((0, 1), (2,))]
    weights = [[float(2 + k) if k % 3 == 0 else 1.0 for k in range(len(rows))] for rows in shards]
    plain = write_dataset(tmp_path / "plain", shards, [2, 1], 6)
    dataset = write_dataset(tmp_path / "data", shards, [2, 1], 6, weights=weights)
    assert "weight_meaning" not in json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert Dataset.open(dataset.uri).manifest.has_weights
    rows = dataset.interactions("train", weights=True)
    assert rows.weights is not None
    np.testing.assert_array_equal(rows.weights, [2.0, 5.0, 8.0, 11.0, 2.0, 5.0])
    np.testing.assert_array_equal(rows.slice(1, 3).weights, rows.weights[2:])
    np.testing.assert_array_equal(rows.take(np.array([2, 0])).weights, [2.0, 5.0, 2.0, 5.0])
    for none in (dataset.interactions("train"), plain.interactions("train", weights=True)):
        assert none.weights is None
        np.testing.assert_array_equal(none.items, rows.items)
    assert dataset.to_frame("train").columns == [*plain.to_frame("train").columns, "weight"]
    np.testing.assert_array_equal(dataset.to_frame("train")["weight"], rows.weights)
    model = create_model("popularity", {"weights": True})
    of_dataset, of_rows = model.fit(dataset).score(rows), model.fit(rows).score(rows)
    np.testing.assert_array_equal(of_dataset, of_rows)
    np.testing.assert_array_equal(of_dataset[0], [12.0, 0, 0, 21.0, 0, 0])


def test_a_pair_that_is_repeated_has_the_mean_of_its_weights() -> None:
    rows = Interactions(np.arange(2), np.array([0, 3, 4]), np.array([1, 0, 1, 2], np.int32), 3)
    rows = weighted(np.array([2.0, 1.0, 4.0, 5.0], np.float32), rows)
    np.testing.assert_array_equal(rows.to_csr("weight").toarray(), [[1, 3, 0], [0, 0, 5]])
    np.testing.assert_array_equal(rows.to_csr().toarray(), [[1, 1, 0], [0, 0, 1]])
