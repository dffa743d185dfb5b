"""What of distilled rows some users explain, on rows whose users are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from distill_at_scale.distillation.dependence import shares_of
from distill_at_scale.distillation.farzi.latent import LatentSequences


def made_of(rows: np.ndarray) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(kind="rows"), rows=lambda: rows.astype(np.float32))


@pytest.fixture
def train() -> sp.csr_array:
    """Two groups of users without an item in common."""
    rng = np.random.default_rng(0)
    x = np.zeros((30, 20))
    x[:10, :8] = rng.random((10, 8)) < 0.6
    x[10:, 8:] = rng.random((20, 12)) < 0.6
    return sp.csr_array(x)


def test_rows_belong_to_those_who_have_their_items(train: sp.csr_array) -> None:
    x = train.toarray()
    rows = np.stack([x[:10].mean(0), x[10:].mean(0), x[:10].sum(0) + x[10:].sum(0)])
    found = shares_of(made_of(rows), train, np.arange(30) < 10)
    assert found[0] == pytest.approx(1.0)
    assert found[1] == 0.0
    assert 0.1 < found[2] < 0.9
    both = found + shares_of(made_of(rows), train, np.arange(30) >= 10)
    np.testing.assert_allclose(both, 1.0, rtol=1e-6)


def test_shares_are_those_of_the_regression(train: sp.csr_array) -> None:
    """Against the dense solution of its definition; more rows than one block has."""
    x, rows = train.toarray(), np.random.default_rng(1).standard_normal((70, 20))
    gone = np.arange(30) % 3 == 0
    gram = x.T @ x + x.sum() / 30 * np.eye(20)
    parts = np.abs((x @ np.linalg.solve(gram, rows.T)) * (x @ rows.T))
    wanted = parts[gone].sum(0) / parts.sum(0)
    found = shares_of(made_of(rows), train, gone)
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


def test_a_sequence_is_the_sum_of_its_tokens(train: sp.csr_array) -> None:
    inputs = torch.zeros(2, 3, 2)
    inputs[0, :, 0] = inputs[1, :, 1] = 30.0
    decoder = torch.zeros(2, 20)
    decoder[0, 2] = decoder[1, 9] = 1.0
    latent = LatentSequences(inputs, decoder)
    made: Any = SimpleNamespace(manifest=SimpleNamespace(kind="sequences"), sequences=lambda: latent)
    found = shares_of(made, train, np.arange(30) < 10)
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found[1] == pytest.approx(0.0, abs=1e-6)
