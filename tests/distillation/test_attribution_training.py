"""Values of train rows through a training, against finite differences and against trainings without rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from distill_kit import grouped, interactions

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.adjoint import EveryKth, EveryState, Keep, Snapshots
from distill_at_scale.distillation.attribution import cross_entropy
from distill_at_scale.distillation.attribution.cross_entropy import log_partition
from distill_at_scale.distillation.attribution.learners import create_learner
from distill_at_scale.distillation.attribution.training import Attribution, affordable
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model, find_model

N_ITEMS = 8
FEW: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 0.02, "schedule": "linear"}
SETTINGS: dict[str, dict[str, Any]] = {
    "sasrec": {**FEW, "dim": 4, "blocks": 1, "heads": 2, "dropout": 0.2},
    "gru4rec": {**FEW, "dim": 4, "hidden": 3, "dropout": 0.2},
    "mf": {**FEW, "dim": 3, "negatives": 5, "dropout": 0.2, "weight_decay": 1e-3, "batch_size": 11},
}
models = pytest.mark.parametrize("model", SETTINGS)


def attribution(
    model: str, train: Interactions, heldout: Interactions, keep: Keep | None = None, **changed: Any
) -> Attribution:
    learner = create_learner(model, {**SETTINGS[model], **changed}, train)
    return Attribution(learner, train, heldout, keep, torch.float64)


@pytest.mark.parametrize(
    ("model", "changed"), [("sasrec", {"length": 2}), ("sasrec", {"blocks": 2}), ("gru4rec", {}), ("mf", {})]
)
def test_values_are_exact_gradients(model: str, changed: dict[str, Any]) -> None:
    """With dropout and drawn negatives; by finite differences of whole trainings in float64, the slow twin."""
    train, heldout = grouped(7, N_ITEMS)
    whole = attribution(model, train, heldout, **changed)
    found = whole.row_values()
    assert found.loss == pytest.approx(whole.trained().loss, rel=1e-12)
    rows, step = len(found.values), 1e-5
    assert rows == train.n_rows
    order = np.argsort(np.repeat(train.users, train.counts) * N_ITEMS + train.items)
    for k in range(0, rows, 4):
        sides = []
        for sign in (1, -1):
            weights = torch.ones(rows, dtype=torch.float64)
            weights[order[k] if model != "mf" else k] += sign * step
            sides.append(whole.trained(weights).loss)
        assert -found.values[k] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6, abs=1e-8)
    assert np.abs(found.values).max() > 1e-4


@models
def test_policies_and_repeats_give_the_same_values(model: str) -> None:
    train, heldout = grouped(7, N_ITEMS)
    first = attribution(model, train, heldout, EveryState()).row_values().values
    for keep in (EveryKth(2), Snapshots(2)):
        np.testing.assert_array_equal(attribution(model, train, heldout, keep).row_values().values, first)


@models
def test_the_training_is_that_of_fit(model: str) -> None:
    train, heldout = grouped(20, N_ITEMS)
    learner = create_learner(model, SETTINGS[model], train)
    trained = Attribution(learner, train, heldout).trained().parameters
    fitted: Any = create_model(model, {**SETTINGS[model], "device": "cpu"}).fit(train)
    for name, value in fitted._module.named_parameters():
        # The gradients of a user's bias, which ranks nothing, are round-off.
        some = slice(0, -1 if name == "user" else None)
        torch.testing.assert_close(trained[name][..., some], value.detach()[..., some], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("place", [0, 2, -1], ids=["oldest", "middle", "newest"])
def test_a_row_of_weight_0_is_left_out(model: str, place: int) -> None:
    """What the derivative extrapolates to is the log without the row: as target, as input and in the positions."""
    rows = [np.array([1, 5, 2, 7, 3]), np.array([4, 1, 6]), np.array([0, 2, 4, 6])]
    train, heldout = interactions(rows, N_ITEMS), interactions([np.array([6]), np.array([2]), np.array([1])], N_ITEMS)
    weights = torch.ones(train.n_rows, dtype=torch.float64)
    weights[range(5)[place]] = 0.0
    shorter = interactions([np.delete(rows[0], place), *rows[1:]], N_ITEMS)
    whole, without = (attribution(model, some, heldout, dropout=0.0) for some in (train, shorter))
    judged = whole.trained().loss
    left_out = Attribution(whole._learner, train, heldout, dtype=torch.float64).trained(weights).parameters
    for name, value in without.trained().parameters.items():
        torch.testing.assert_close(left_out[name], value, rtol=1e-9, atol=1e-11)
    assert judged != pytest.approx(without.trained().loss, rel=1e-6)


def test_the_partition_is_exact_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_chunk", lambda items: 2)
    generator = torch.Generator().manual_seed(0)
    states, items, weights = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 3), (4, 3), (5,))
    )
    torch.testing.assert_close(log_partition(states, items, weights), (weights * (states @ items.T).logsumexp(1)).sum())
    assert torch.autograd.gradcheck(log_partition, (states, items, weights))
    some = weights.detach()
    assert torch.autograd.gradgradcheck(lambda s, i: log_partition(s, i, some), (states, items))
    bars = torch.randn(5, 3, generator=generator, dtype=torch.float64)

    def by_weights(made: Any) -> torch.Tensor:
        (slope,) = torch.autograd.grad(made, states, create_graph=True)
        return torch.autograd.grad(slope, weights, bars)[0]

    plain = (weights * (states @ items.T).logsumexp(1)).sum()
    torch.testing.assert_close(by_weights(log_partition(states, items, weights)), by_weights(plain))


@models
def test_losses_of_rows_are_parts_of_the_loss(model: str) -> None:
    """With sequences of several lengths."""
    train, _ = grouped(7, N_ITEMS)
    learner = create_learner(model, {**SETTINGS[model], "dropout": 0.0}, train)
    parameters = {name: value.double() for name, value in learner.parameters().items()}
    batch = learner.batch(0)
    each = learner.losses(parameters, batch)
    assert each.shape == batch["rows"].shape
    some = each[each != 0]
    torch.testing.assert_close(some.mean(), learner.loss(parameters, batch, None))


def test_memory_decides_what_is_kept() -> None:
    train, _ = grouped(20, N_ITEMS)
    learner = create_learner("mf", {**SETTINGS["mf"], "epochs": 50, "batch_size": 4}, train)
    model = find_model("mf")
    sizes = []
    free = 1 << 40
    for kind in (EveryState, EveryKth, Snapshots):
        keep, needed = affordable(model, learner.config, learner.n_steps, len(learner.row_users), 20, N_ITEMS, free)
        assert type(keep) is kind
        assert needed <= free
        sizes.append(needed)
        free = needed - 1
    assert sizes == sorted(sizes, reverse=True)
    # Where nothing fits, the smallest need is what the refusal names.
    assert affordable(model, learner.config, learner.n_steps, len(learner.row_users), 20, N_ITEMS, 0)[1] == sizes[-1]


def test_what_is_refused() -> None:
    train, heldout = grouped(5, N_ITEMS)
    with pytest.raises(SettingError, match="objective=implicit only"):
        create_learner("mf", {"objective": "explicit"}, train)
    short = interactions([np.array([1]), np.array([2])], N_ITEMS)
    with pytest.raises(DasError, match="a sequence needs two"):
        create_learner("sasrec", {}, short)
    nobody = Interactions(heldout.users, np.zeros_like(heldout.offsets), heldout.items[:0], N_ITEMS)
    with pytest.raises(DasError, match="both train and validation rows"):
        attribution("mf", train, nobody)
    with pytest.raises(DasError, match="smaller learning_rate"):
        attribution("mf", train, heldout, learning_rate=1e200, epochs=4).row_values()
