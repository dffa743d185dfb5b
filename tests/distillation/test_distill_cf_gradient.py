"""The derivative through ∞-AE, written by hand, against autograd of the definition and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from distill_at_scale.distillation import losses
from distill_at_scale.distillation.differentiable_krr import Histories, RidgePrediction
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.row_parametrisations import find_parametrisation

CPU = torch.device("cpu")
USERS, ROWS, ITEMS = 9, 6, 20


def slow_prediction(x: torch.Tensor, s: torch.Tensor, log_lam: torch.Tensor) -> torch.Tensor:
    """P = K(x, S)(K(S, S) + λ' I)^-1 S from the definition, with arccos, for autograd."""
    w, b2 = 2 / x.shape[1], 0.01

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        cross, q_a, q_b = w * a @ b.T + b2, w * (a * a).sum(1) + b2, w * (b * b).sum(1) + b2
        scale = (q_a[:, None] * q_b[None, :]).sqrt()
        theta = torch.arccos((cross / scale).clamp(-1 + 1e-15, 1 - 1e-15))
        return (scale * theta.sin() + 2 * cross * (math.pi - theta)) / math.pi + b2

    diagonal = 2 * (w * (s * s).sum(1) + b2) + b2
    same = torch.eye(len(s), dtype=torch.bool)
    square = torch.where(same, diagonal[:, None], kernel(s, torch.where(same.any(), s, s)))
    shift = log_lam.exp() * diagonal.mean()
    return kernel(x, s) @ torch.linalg.solve(square + shift * torch.eye(len(s), dtype=s.dtype), s)


def drawn(seed: int) -> tuple[sp.csr_array, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = sp.csr_array((rng.random((USERS, ITEMS)) < 0.3).astype(np.float32))
    return (
        x,
        torch.from_numpy(rng.standard_normal((ROWS, ITEMS))),
        torch.from_numpy(rng.standard_normal((USERS, ITEMS))),
    )


def test_prediction_and_gradient_are_the_definitions() -> None:
    x, s, cotangent = drawn(0)
    log_lam = torch.tensor(math.log(0.7), dtype=torch.float64, requires_grad=True)
    s.requires_grad_()
    # Off the diagonal only: arccos has no derivative at 1, where the diagonal is.
    predicted = RidgePrediction(Histories(x, torch.float64, CPU), s.detach(), 0.7)
    d_rows, d_log_lam = predicted.backward(cotangent)

    def apart(s: torch.Tensor, log_lam: torch.Tensor) -> torch.Tensor:
        return slow_prediction(torch.from_numpy(x.toarray()).double(), s, log_lam)

    expected = apart(s.detach(), log_lam.detach())
    torch.testing.assert_close(predicted.predictions, expected, rtol=1e-9, atol=1e-9)
    # Finite differences of the slow twin, in every direction.
    step = 1e-5
    with torch.no_grad():
        for row in range(ROWS):
            for item in range(0, ITEMS, 3):
                ends = []
                for sign in (1, -1):
                    moved = s.detach().clone()
                    moved[row, item] += sign * step
                    ends.append((apart(moved, log_lam) * cotangent).sum())
                assert float(d_rows[row, item]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), abs=1e-6)
        up, down = ((apart(s, log_lam + sign * step) * cotangent).sum() for sign in (1, -1))
    assert d_log_lam == pytest.approx(float(up - down) / (2 * step), abs=1e-6)


def test_gradient_is_autograds() -> None:
    """In float64, through r = √(q_a q_b − s²) and atan2, the diagonal apart."""
    x, s, cotangent = drawn(1)
    s.requires_grad_()
    log_lam = torch.tensor(math.log(2.0), dtype=torch.float64, requires_grad=True)
    dense, w, b2 = torch.from_numpy(x.toarray()).double(), 2 / ITEMS, 0.01
    same = torch.eye(ROWS, dtype=torch.bool)

    def kernel(gram: torch.Tensor, n_a: torch.Tensor, n_b: torch.Tensor) -> torch.Tensor:
        cross = w * gram + b2
        r = ((w * n_a + b2)[:, None] * (w * n_b + b2)[None, :] - cross * cross).sqrt()
        return (r + 2 * cross * (math.pi - torch.atan2(r, cross))) / math.pi + b2

    n_s = (s * s).sum(1)
    q = w * n_s + b2
    square = torch.where(same, torch.diag(2 * q + b2), kernel(torch.where(same, 0.0, s @ s.T), n_s, n_s))
    shift = log_lam.exp() * (2 * q + b2).mean()
    system = square + shift * torch.eye(ROWS, dtype=torch.float64)
    predictions = kernel(dense @ s.T, dense.sum(1), n_s) @ torch.linalg.solve(system, s)
    (predictions * cotangent).sum().backward()

    found = RidgePrediction(Histories(x, torch.float64, CPU), s.detach(), 2.0)
    d_rows, d_log_lam = found.backward(cotangent)
    torch.testing.assert_close(found.predictions, predictions.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(d_rows, s.grad, rtol=0, atol=1e-12)
    assert log_lam.grad is not None
    assert d_log_lam == pytest.approx(float(log_lam.grad), abs=1e-12)


def test_duplicate_rows_and_rows_of_users_are_safe() -> None:
    """Where two rows are one, r has a kink and 1/r is infinite; so it is where a row is a user's history."""
    x, s, cotangent = drawn(2)
    s[1] = s[0]
    s[2] = torch.from_numpy(x.toarray()[3])
    s[3] = s[2] * (1 + 1e-9)
    s[4] = 0.0
    for dtype in (torch.float64, torch.float32):
        found = RidgePrediction(Histories(x, dtype, CPU), s.to(dtype), 0.5)
        d_rows, d_log_lam = found.backward(cotangent.to(dtype))
        assert torch.isfinite(d_rows).all()
        assert math.isfinite(d_log_lam)
    # Duplicates must stay alike: whatever moves one moves the other.
    d_rows, _ = RidgePrediction(Histories(x, torch.float64, CPU), s, 0.5).backward(cotangent)
    torch.testing.assert_close(d_rows[0], d_rows[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss", [losses.hidden_squares, losses.likelihood])
def test_losses_are_their_definitions(loss: object) -> None:
    rng = np.random.default_rng(3)
    p = torch.from_numpy(rng.standard_normal((5, 7))).requires_grad_()
    mask = rng.random((5, 7))
    inputs, hidden = torch.from_numpy((mask < 0.4) * 1.0), torch.from_numpy((mask > 0.8) * 1.0)
    inputs[2] = 0.0
    if loss is losses.hidden_squares:
        expected = torch.zeros((), dtype=torch.float64)
        for user in range(5):
            for item in range(7):
                if inputs[user, item] == 0:
                    weight = 1 / max(float(inputs[user].sum()), 1.0)
                    expected = expected + weight * (p[user, item] - hidden[user, item]) ** 2
    else:
        everything = inputs + hidden
        expected = -sum(
            everything[user, item] * (p[user, item] - p[user].exp().sum().log())
            for user in range(5)
            for item in range(7)
        )
    expected.backward()
    found, slope = loss(p.detach(), inputs, hidden)  # type: ignore[operator]
    assert float(found) == pytest.approx(expected.item())
    torch.testing.assert_close(slope, p.grad)


@pytest.mark.parametrize("rows", ["free", "unit", "softmax", "gumbel"])
def test_families_pull_back_what_autograd_does(rows: str) -> None:
    config = DistillCFConfig(users=4, rows=rows, draws=7, temperature=1.5)  # type: ignore[arg-type]
    family = find_parametrisation(config)
    rng = np.random.default_rng(4)
    z = torch.from_numpy(rng.random((4, 6)))
    cotangent = torch.from_numpy(rng.standard_normal((4, 6)))
    moving = z.clone().requires_grad_()
    values = family.values(moving, 5)
    (values * cotangent).sum().backward()
    torch.testing.assert_close(family.pull_back(cotangent, z, 5), moving.grad)
    if rows in ("softmax", "gumbel"):
        assert 0 < float(values.detach().min()) <= float(values.detach().max()) <= 1
        price, d_price = family.penalty(values.detach(), 20.0)
        assert price == pytest.approx(1e-3 * float(values.detach().sum(1).mean()) / 20)
        assert torch.is_tensor(d_price)
        torch.testing.assert_close(d_price, torch.full_like(z, 1e-3 / 20 / 4))


def test_gumbel_draws_are_of_their_step_and_their_mean_is_the_softmaxs() -> None:
    settings = {"users": 4, "draws": 60, "temperature": 10.0}
    drawn, mean = (find_parametrisation(DistillCFConfig(rows=rows, **settings)) for rows in ("gumbel", "softmax"))  # type: ignore[arg-type]
    z = torch.zeros(4, 1000)
    z[0, :5] = 3.0
    first = drawn.values(z, 1)
    assert torch.equal(first, drawn.values(z, 1))
    assert not torch.equal(first, drawn.values(z, 2))
    # At τ = 10 the mean of the draws is the softmax within 1 %: the claim that makes the cheap estimator.
    assert float((first.mean() / mean.values(z, 1).mean() - 1).abs()) < 2e-3
    torch.testing.assert_close(first, mean.values(z, 1), rtol=0.08, atol=0)


def test_binary_rows_pass_the_derivative_straight_through() -> None:
    """X̂ is Z against ½, its derivative that of X̂ itself, and Z stays in [0, 1]."""
    family = find_parametrisation(DistillCFConfig(rows="binary"))
    z = torch.rand(ROWS, ITEMS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = torch.tensor(
        [[1.0 if value >= 0.5 else 0.0 for value in row] for row in z.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(family.values(z, 0), expected)
    d_rows = torch.randn(ROWS, ITEMS, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    torch.testing.assert_close(family.pull_back(d_rows, z, 0), d_rows)
    moved = family.project(z - 10 * d_rows)
    assert moved.min() == 0
    assert moved.max() == 1
    rows = (torch.rand(ROWS, ITEMS, generator=torch.Generator().manual_seed(7)) < 0.3).float()
    torch.testing.assert_close(family.values(family.start(rows), 0), rows)
