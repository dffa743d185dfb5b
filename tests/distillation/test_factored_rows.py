"""Synthetic rows in factors: the loss, its derivative and the scores are those of the rows Z Vᵀ, at a fraction of the
numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from distill_kit import grouped, signs_of_machines, together

from distill_at_scale.distillation import losses
from distill_at_scale.distillation.differentiable_krr import Histories, RidgePrediction
from distill_at_scale.distillation.distill_cf import DistillCF
from distill_at_scale.distillation.distill_cf_config import MOST_LEARNED, DistillCFConfig
from distill_at_scale.distillation.factored_rows import ItemVectors, hidden_squares
from distill_at_scale.distillation.factored_start import initial_factors
from distill_at_scale.distillation.select_lambda import ease_score, ridge_score
from distill_at_scale.distillation.sketch import item_factors
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.synthetic_rows import FactoredRows, SyntheticRows
from distill_at_scale.models.training.sources import MemorySource

USERS, ROWS, ITEMS = 12, 5, 30


def drawn(rank: int) -> tuple[sp.csr_array, sp.csr_array, torch.Tensor, torch.Tensor]:
    """Inputs and hidden items of some users, one without inputs; Z and V, float64."""
    rng = np.random.default_rng(rank)
    kind = rng.choice(3, size=(USERS, ITEMS), p=(0.6, 0.2, 0.2))
    kind[0][kind[0] == 1] = 0
    inputs, hidden = (sp.csr_array((kind == k).astype(np.float32)) for k in (1, 2))
    v = np.eye(ITEMS) if rank == ITEMS else rng.standard_normal((ITEMS, rank))
    return inputs, hidden, torch.from_numpy(rng.standard_normal((ROWS, rank))), torch.from_numpy(v)


@pytest.mark.parametrize("rank", [1, 4, ITEMS])
def test_loss_and_derivatives_are_those_of_dense_rows(rank: int) -> None:
    inputs, hidden, z, v = drawn(rank)
    rows = z @ v.T
    histories = Histories(inputs, torch.float64, torch.device("cpu"))
    predicted = RidgePrediction(histories, rows, 0.7)
    loss, slope = losses.hidden_squares(predicted.predictions, histories.dense, losses.dense(hidden, rows))
    d_rows, d_log_lam = predicted.backward(slope)

    vectors = ItemVectors(v.numpy())
    found = hidden_squares(z, math.log(0.7), vectors, inputs, hidden, learn_vectors=True)
    assert found.loss == pytest.approx(float(loss), rel=1e-10)
    assert found.log_lam == pytest.approx(d_log_lam, rel=1e-8)
    torch.testing.assert_close(found.z, d_rows @ v, rtol=1e-9, atol=1e-9)
    assert found.v is not None
    torch.testing.assert_close(found.v, d_rows.T @ z, rtol=1e-9, atol=1e-9)
    if rank == ITEMS:
        # With V = I the coordinates are the rows.
        torch.testing.assert_close(found.z, d_rows, rtol=1e-9, atol=1e-9)
    assert hidden_squares(z, math.log(0.7), vectors, inputs, hidden).v is None


@pytest.mark.parametrize("vectors", ["learned", "fixed"])
def test_any_number_of_workers_learns_the_same_and_sums_few_numbers(vectors: str) -> None:
    config = settings(vectors=vectors)
    found: dict[int, list[np.ndarray]] = {}
    for world in (1, 2, 4):
        largest: list[int] = []

        def work(users: RealUsers, largest: list[int] = largest) -> np.ndarray:
            loop = DistillCF(config, users)
            add = users.communicator.all_reduce

            def counted(tensor: torch.Tensor) -> None:
                largest.append(tensor.numel())
                add(tensor)

            users.communicator.all_reduce = counted  # type: ignore[method-assign]
            loop._learn()
            del users.communicator.all_reduce
            loop.run()
            rows = loop.rows()[0]
            assert isinstance(rows, FactoredRows)
            assert loop.best_point().step > 0
            return rows.dense()

        found[world] = together(world, work)
        n_items = 24 if vectors == "learned" else 0
        assert set(largest) == {(6 + n_items) * 4 + 3}
    # The singular vectors depend on the order of sums; what the workers of a run hold does not.
    np.testing.assert_array_equal(found[2][0], found[2][1])
    for world in (2, 4):
        np.testing.assert_allclose(found[world][0], found[1][0], atol=2e-3)


@pytest.mark.parametrize("init", ["random", "sketch", "clusters"])
def test_machines_whose_singular_vectors_differ_in_sign_start_as_one(init: Any) -> None:
    (alone,) = together(1, lambda users: initial_factors(init, 6, 5, users, 0))
    with signs_of_machines():
        found = together(3, lambda users: (initial_factors(init, 6, 5, users, 0), item_factors(users, 5, 0)))
    for factors, (sigma, v) in found:
        np.testing.assert_array_equal(factors.v, found[0][0].v)
        np.testing.assert_allclose(factors.dense(), alone.dense(), atol=2e-4)
        torch.testing.assert_close(v, found[0][1][1])
        torch.testing.assert_close(v.T @ v, torch.eye(5), atol=1e-4, rtol=0)
        assert float(sigma[0]) > 1


@pytest.mark.parametrize("vectors", ["learned", "fixed"])
def test_a_killed_run_goes_on(vectors: str) -> None:
    users = RealUsers(MemorySource(*grouped()))
    whole = DistillCF(settings(vectors=vectors), users)
    whole.run()
    first = DistillCF(settings(vectors=vectors), users)
    first.run(give_up=lambda: first.step == 5)
    second = DistillCF(settings(vectors=vectors), users)
    second.restore(first.state())
    second.run()
    (one, lam), (other, other_lam) = whole.rows(), second.rows()
    assert isinstance(one, FactoredRows)
    assert isinstance(other, FactoredRows)
    assert lam == other_lam
    np.testing.assert_array_equal(one.z, other.z)
    np.testing.assert_array_equal(one.v, other.v)


def test_given_rows_of_the_rank_are_the_start() -> None:
    rng = np.random.default_rng(0)
    given = torch.from_numpy((rng.standard_normal((6, 4)) @ rng.standard_normal((4, 24))).astype(np.float32))
    loop = DistillCF(settings(), RealUsers(MemorySource(*grouped())), start=given)
    rows = loop._objective.rows(loop._z)
    assert isinstance(rows, FactoredRows)
    np.testing.assert_allclose(rows.dense(), given.numpy(), atol=1e-5)


def test_scores_of_factors_are_those_of_their_product(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    factors = FactoredRows(
        rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((24, 4)).astype(np.float32)
    )
    histories, dense = grouped()[0], factors.dense()
    ridge = [ridge_score(values, 0.5).all_items(histories) for values in (factors, dense)]
    np.testing.assert_allclose(*ridge, atol=1e-4)
    of_factors, of_rows = (ease_score(SyntheticRows(values, 60, 400), 20.0) for values in (factors, dense))
    np.testing.assert_allclose(of_factors.all_items(histories), of_rows.all_items(histories), atol=1e-4)
    # By blocks of items they are the same.
    for one, whole in ((ridge_score(factors, 0.5), ridge[0]), (of_factors, of_factors.all_items(histories))):
        scores = one.begin(histories)
        np.testing.assert_allclose(np.hstack([scores(0, 7), scores(7, 24)]), whole, atol=1e-6)
    model = InfiniteAE(lam=0.5).fit_rows(SyntheticRows(factors, 60, 400))
    model.save(str(tmp_path))
    np.testing.assert_array_equal(InfiniteAE.load(str(tmp_path)).score(histories), model.score(histories))
    # No weight has a number for each user and item.
    assert max(weights.size for weights in model._weights().values()) == factors.v.size


def test_learned_where_workers_sum_little() -> None:
    config = DistillCFConfig(rank=100)
    assert config.learns_vectors(MOST_LEARNED // 100)
    assert not config.learns_vectors(MOST_LEARNED // 100 + 1)
    assert not DistillCFConfig().learns_vectors(10)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"rank": 4, "rows": "unit"}, "rank is for free rows"), ({"vectors": "fixed"}, "set rank")]
)
def test_contradictions_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DistillCFConfig(**wrong)


def settings(**changes: Any) -> DistillCFConfig:
    base = {"users": 6, "rank": 4, "steps": 12, "batch_size": 20, "validate_every": 4, "warm_up": 3, "seed": 3}
    return DistillCFConfig(**{**base, "lam": 1.0, **changes})
