"""Models fitted on real-valued rows: the same as on a log where the rows are one, and kept by a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_kit import grouped

from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model, load_model
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.models.training.sources import filled

MODELS: dict[str, dict[str, Any]] = {
    "infinite_ae": {"lam": 0.5, "dtype": "float64", "device": "cpu", "solver": "exact"},
    "ease": {"lam": 5.0, "dtype": "float64"},
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_that_are_a_log_give_the_logs_model(name: str, tmp_path: Path) -> None:
    # A user without train rows is none to a log's model, and one like any other among rows.
    train, heldout = filled(*grouped())
    assert heldout is not None
    rows = SyntheticRows(train.to_csr().toarray(), len(train), train.n_rows, "fingerprint", {name: {"lam": 0.01}})
    on_log = create_model(name, MODELS[name]).fit(train)
    on_rows = create_model(name, MODELS[name]).fit_rows(rows)
    np.testing.assert_allclose(on_rows.score(heldout), on_log.score(heldout), atol=1e-5)
    assert on_rows.item_space == "fingerprint"
    on_rows.save(str(tmp_path / "model"))
    np.testing.assert_array_equal(load_model(str(tmp_path / "model")).score(heldout), on_rows.score(heldout))
    # Left open, λ is the one that was chosen at distilling.
    left_open = {key: value for key, value in MODELS[name].items() if key != "lam"}
    chosen = create_model(name, left_open).fit_rows(rows).score(heldout)
    given = create_model(name, {**left_open, "lam": 0.01}).fit_rows(rows).score(heldout)
    np.testing.assert_array_equal(chosen, given)


def test_ease_does_not_depend_on_the_rows_scale() -> None:
    """S is rescaled so that tr SᵀS = tr XᵀX."""
    train, heldout = grouped()
    values = np.random.default_rng(0).standard_normal((5, 24)).astype(np.float32)
    scores = [
        create_model("ease", MODELS["ease"])
        .fit_rows(SyntheticRows(factor * values, len(train), train.n_rows))
        .score(heldout)
        for factor in (1.0, 7.0)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_the_kernel_of_real_rows_is_that_of_the_definition() -> None:
    """∞-AE on rows of any sign, duplicates among them, against plain linear algebra."""
    train, _ = grouped(n_users=9)
    values = np.random.default_rng(1).standard_normal((6, 24)).astype(np.float32)
    values[3] = values[2]
    found = create_model("infinite_ae", MODELS["infinite_ae"]).fit_rows(SyntheticRows(values, 9, 9)).score(train)
    s, x = values.astype(np.float64), train.to_csr().toarray().astype(np.float64)
    w, b2 = 2 / 24, 0.01

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        cross = w * a @ b.T + b2
        scale = np.sqrt(np.outer(w * (a * a).sum(1) + b2, w * (b * b).sum(1) + b2))
        theta = np.arccos(np.clip(cross / scale, -1, 1))
        return (scale * np.sin(theta) + 2 * cross * (np.pi - theta)) / np.pi + b2

    square = kernel(s, s)
    system = square + 0.5 * np.diag(square).mean() * np.eye(6)
    np.testing.assert_allclose(found, kernel(x, s) @ np.linalg.solve(system, s), atol=1e-5)


def test_what_is_no_rows_is_refused() -> None:
    for bad in (np.full((2, 3), np.nan, np.float32), np.zeros((2, 3), np.float32), np.zeros(3, np.float32)):
        with pytest.raises(DasError, match=r"[sS]ynthetic rows"):
            SyntheticRows(bad, 2, 6)
    rows = SyntheticRows(np.ones((2, 3), np.float32), 2, 6)
    with pytest.raises(DasError, match="bias cannot learn from real-valued rows of synthetic users; those that can: "):
        create_model("bias", {}).fit_rows(rows)
    with pytest.raises(DasError, match="ease: no lam was selected for these synthetic rows; set it"):
        create_model("ease", {}).fit_rows(rows)


def test_mf_on_rows_is_the_optimum_of_its_squares_and_folds_users_in() -> None:
    """Against alternating ridge regressions of S's rows and columns until nothing moves, and that of a history."""
    train, heldout = grouped()
    values = np.random.default_rng(2).standard_normal((7, 24)).astype(np.float32)
    dim, shrinkage = 3, 0.5
    model = create_model("mf", {"dim": dim, "shrinkage": shrinkage, "device": "cpu"})
    found = model.fit_rows(SyntheticRows(values, len(train), train.n_rows)).score(heldout)
    s = values.astype(np.float64)
    ridge = shrinkage * np.linalg.svd(s)[1][dim - 1] * np.eye(dim)
    q = np.random.default_rng(3).standard_normal((24, dim))
    for _ in range(3000):
        p = np.linalg.solve(q.T @ q + ridge, q.T @ s.T).T
        q = np.linalg.solve(p.T @ p + ridge, p.T @ s).T
    x = heldout.to_csr().toarray().astype(np.float64)
    expected = np.linalg.solve(q.T @ q + ridge, q.T @ x.T).T @ q.T
    counts = np.maximum(x.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(found * counts, expected, atol=1e-5)


def test_mf_on_rows_is_kept_by_a_saved_model(tmp_path: Path) -> None:
    """With fewer rows than its width, too."""
    train, heldout = grouped()
    values = np.random.default_rng(4).random((4, 24)).astype(np.float32)
    model = create_model("mf", {"device": "cpu"}).fit_rows(SyntheticRows(values, len(train), train.n_rows, "space"))
    model.save(str(tmp_path / "model"))
    loaded = load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.score(heldout), model.score(heldout))
    assert loaded.item_space == "space"


def test_mf_learns_no_ratings_from_rows() -> None:
    with pytest.raises(DasError, match="no ratings to learn"):
        create_model("mf", {"objective": "explicit", "metric": "mse"}).fit_rows(
            SyntheticRows(np.eye(3, dtype=np.float32), 3, 3)
        )


def test_mvae_on_rows_learns_their_groups(tmp_path: Path) -> None:
    """Twelve soft users of three groups of items: real users' other items of their group come first."""
    train, heldout = grouped()
    values = np.where(np.arange(24)[None, :] % 3 == np.arange(12)[:, None] % 3, 0.7, -0.2).astype(np.float32)
    rows = SyntheticRows(values, len(train), train.n_rows, "space")
    settings = {
        "hidden": 16,
        "latent": 4,
        "row_steps": 60,
        "row_learning_rate": 0.01,
        "device": "cpu",
        "row_dropout": 0.2,
    }
    state = torch.random.get_rng_state()
    model = create_model("mvae", settings).fit_rows(rows)
    torch.testing.assert_close(torch.random.get_rng_state(), state)
    scores = model.score(train)
    group = np.arange(24)[None, :] % 3 == np.arange(60)[:, None] % 3
    assert scores[group].mean() > scores[~group].mean() + 1
    again = create_model("mvae", settings).fit_rows(rows)
    np.testing.assert_array_equal(again.score(heldout), model.score(heldout))
    model.save(str(tmp_path / "model"))
    np.testing.assert_array_equal(load_model(str(tmp_path / "model")).score(heldout), model.score(heldout))
