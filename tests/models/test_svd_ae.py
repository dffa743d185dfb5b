"""SVD-AE: the contract, and its factors against a dense SVD."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from contract import RecommenderContract, make_rows

from distill_at_scale.models import create_model


class TestSvdAE(RecommenderContract):
    name = "svd_ae"
    settings: ClassVar = {"rank": 3}
    open_parameter = "rank"
    small_grid = (1, 3)


@pytest.mark.parametrize(
    ("rank", "users"),
    # By subspace iteration on the items or on the users, and by the Gram matrix of either.
    [(1, 200), (4, 200), (9, 200), (1, 80), (4, 80), (20, 200), (20, 60), (9, 60)],
)
def test_scores_equal_the_dense_formula(rank: int, users: int) -> None:
    rng = np.random.default_rng(0)
    # Items of falling popularity, so that the leading singular values are well apart.
    chosen = rng.random((users, 90)) < np.linspace(0.5, 0.02, 90)
    chosen[0] = False
    rows = make_rows([np.flatnonzero(row).tolist() for row in chosen], n_items=90)
    model = create_model("svd_ae", {"rank": rank, "iterations": 40}).fit(rows)
    r = rows.to_csr(dtype=np.float64).toarray()
    d_u, d_i = np.maximum(r.sum(1), 1), np.maximum(r.sum(0), 1)
    normalised = r / np.sqrt(d_u[:, None]) / np.sqrt(d_i)
    u, s, vt = np.linalg.svd(normalised, full_matrices=False)
    expected = normalised @ (vt[:rank].T / s[:rank]) @ (u[:, :rank].T @ r)
    np.testing.assert_allclose(model.score(rows), expected, atol=2e-3)


def test_rank_beyond_the_data_is_cut() -> None:
    rows = make_rows([[0, 1], [0, 1], [2]], n_items=3)
    model = create_model("svd_ae", {"rank": 50}).fit(rows)
    assert model._weights()["encoder"].shape == (3, 2)
