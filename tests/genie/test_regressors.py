"""Means, ridge and the networks; and the choice between kinds of models on datasets held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from genie_kit import BUDGETS, METHODS, NAMES, make_cells, make_features
from scipy.optimize import nnls

from distill_at_scale.genie import network_training, regressors
from distill_at_scale.genie.cross_validation import method_scores
from distill_at_scale.genie.network_config import NetworkConfig
from distill_at_scale.genie.networks import Pairwise, Pointwise, pairs
from distill_at_scale.genie.regressors import KINDS, folds, make_regressor, out_of_fold, regrets, select_regressor
from distill_at_scale.genie.ridge import Additive, Means, Ridge, RidgeConfig, nonnegative_line
from distill_at_scale.genie.table import Encoder, Scaler, Table


def given(n: int = 12, seed: int = 0, noise: float = 0.02) -> tuple[Table, np.ndarray]:
    """Cells of ``n`` datasets as a table, and what they keep."""
    features = make_features(n, seed)
    cells = make_cells(features, noise, seed + 1)
    number = {fingerprint: k for k, fingerprint in enumerate(features)}
    encoder = Encoder(NAMES, METHODS)
    table = encoder.encode(
        list(features.values()),
        cells["method"].to_list(),
        cells["budget"].to_list(),
        [number[f] for f in cells["fingerprint"]],
    )
    return table, cells["kept"].to_numpy()


def test_columns_are_features_of_the_dataset_and_of_the_budget() -> None:
    features = make_features(2)
    encoder = Encoder(NAMES, METHODS)
    table = encoder.encode(list(features.values()), ["dull", "sparse_lover"], [0.1, 0.5], [1, 0])
    assert table.x.shape == (2, len(encoder.columns))
    row = dict(zip(encoder.columns, table.x[0]))
    second = features["f01"]
    assert row["log_density"] == second["log_density"]
    assert row["log_budget"] == np.log(0.1)
    assert row["log_rows_kept"] == pytest.approx(second["log_rows"] + np.log(0.1))
    assert table.one_hot.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert len(set(table.tasks())) == 2


def test_means_are_means_and_lie_in_between_by_the_logarithm() -> None:
    table, y = given()
    means = Means()
    means.fit(table, y)
    found = means.predict(table)
    for method in range(3):
        for budget in BUDGETS:
            rows = (table.method == method) & (table.log_budget == np.log(budget))
            assert found[rows] == pytest.approx(y[rows].mean())
    half = Table(table.x[:1], table.method[:1], np.log([0.1 * 5**0.5]), table.dataset[:1], 3)
    ends = [
        means.predict(Table(table.x[:1], table.method[:1], np.log([b]), table.dataset[:1], 3))[0] for b in (0.1, 0.5)
    ]
    assert means.predict(half)[0] == pytest.approx(np.mean(ends))


def test_additive_is_least_squares_of_method_and_budget() -> None:
    table, y = given()
    additive = Additive()
    additive.fit(table, y)
    of_budget = np.stack([table.log_budget == np.log(budget) for budget in BUDGETS], axis=1)
    columns = np.column_stack([table.one_hot, of_budget])
    weights, *_ = np.linalg.lstsq(columns, y, rcond=None)
    assert additive.predict(table) == pytest.approx(columns @ weights)
    # Its choice is the best single method's, the baseline of the cross-validation.
    best = method_scores(table, y).argmax()
    task, predicted = table.tasks(), additive.predict(table)
    for number in np.unique(task):
        rows = np.flatnonzero(task == number)
        assert table.method[rows[predicted[rows].argmax()]] == best


def test_ridge_solves_its_normal_equations() -> None:
    table, y = given(6)
    ridge = Ridge(RidgeConfig(penalty=7.0 / len(y)))
    ridge.fit(table, y)
    x = (table.x - table.x.mean(0)) / np.maximum(table.x.std(0), 1e-6)
    columns = np.column_stack([x] + [x * (table.method == m)[:, None] for m in range(3)])
    means = Means()
    means.fit(table, y)
    left = y - means.predict(table)
    # A slow twin: the penalty as rows of their own of a plain least squares problem.
    stacked = np.vstack([columns, 7.0**0.5 * np.eye(columns.shape[1])])
    weights, *_ = np.linalg.lstsq(stacked, np.concatenate([left, np.zeros(columns.shape[1])]), rcond=None)
    assert ridge.predict(table) == pytest.approx(means.predict(table) + columns @ weights, abs=1e-8)


@pytest.mark.parametrize("seed", range(40))
def test_costs_are_a_line_that_is_nowhere_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.random(rng.integers(1, 9)) + 0.1
    y = np.maximum(rng.normal(rng.normal(), 1) + rng.normal() * x + 0.1 * rng.normal(size=len(x)), 0.0)
    columns = np.column_stack([np.ones(len(x)), x])
    expected, residual = nnls(columns, y)
    found = np.array(nonnegative_line(x, y))
    assert found.min() >= 0
    assert np.linalg.norm(columns @ found - y) == pytest.approx(residual, abs=1e-9)
    if len(x) > 1:
        assert found == pytest.approx(expected, abs=1e-6)
    assert nonnegative_line(x[:0], y[:0]) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["ridge", "trees", "pointwise", "pairwise", "blend"])
def test_every_kind_learns_which_method_suits_which_dataset(kind: str) -> None:
    table, y = given(20)
    new, new_y = given(10, seed=100, noise=0.0)
    model, means = make_regressor(kind), make_regressor("means")
    model.fit(table, y)
    means.fit(table, y)
    task = new.tasks()
    assert regrets(task, new_y, model.predict(new)).mean() < 0.35 * regrets(task, new_y, means.predict(new)).mean()
    assert np.mean((model.predict(new) - new_y) ** 2) < 0.5 * np.mean((means.predict(new) - new_y) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_changes_nothing_and_the_same_data_give_the_same_model(kind: str) -> None:
    table, y = given(2)
    first, second, loaded = make_regressor(kind), make_regressor(kind), make_regressor(kind)
    first.fit(table, y)
    second.fit(table, y)
    loaded.set_arrays(first.arrays())
    new, _ = given(4, seed=50)
    assert first.predict(new).tolist() == second.predict(new).tolist()
    assert first.predict(new).tolist() == loaded.predict(new).tolist()


@pytest.mark.parametrize("network", [Pointwise, Pairwise])
def test_a_network_scores_as_it_was_trained(network: type[Pointwise] | type[Pairwise]) -> None:
    table, y = given(4)
    model = network(NetworkConfig(width=9, embedding=3, steps=5))
    model.fit(table, y)
    twin = network_training._Network(table.x.shape[1], 3, model.config).eval()
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in model._network.items()})
    with torch.no_grad():
        expected = twin(torch.from_numpy(model._inputs(table)), torch.from_numpy(table.method))
    np.testing.assert_allclose(model._score(table), expected.numpy(), atol=1e-5)


def test_a_network_loads_whatever_its_settings_were() -> None:
    table, y = given(4)
    wide = Pairwise(NetworkConfig(width=9, embedding=3, steps=2))
    wide.fit(table, y)
    other = Pairwise()
    other.set_arrays(wide.arrays())
    assert other.predict(table).tolist() == wide.predict(table).tolist()


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1).item()
    torch.manual_seed(3)
    table, y = given(3)
    Pairwise(NetworkConfig(steps=1)).fit(table, y)
    assert torch.rand(1).item() == expected


def test_pairs_are_all_that_differ_within_a_task() -> None:
    task, y = np.array([0, 0, 0, 1, 1]), np.array([0.5, 0.9, 0.5, 0.1, 0.2])
    better, worse = pairs(task, y)
    assert set(zip(better.tolist(), worse.tolist())) == {(1, 0), (1, 2), (4, 3)}


def test_what_lies_outside_of_the_training_data_is_taken_for_their_edge() -> None:
    scaler = Scaler.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))
    assert scaler(np.array([[10.0, 5.0], [-3.0, 5.0]])).tolist() == scaler(np.array([[2.0, 5.0], [0.0, 5.0]])).tolist()


def test_folds_keep_groups_together_and_are_even() -> None:
    groups = np.repeat([f"g{k}" for k in range(11)], [30, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    fold = folds(groups, 3)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert set(fold) == {0, 1, 2}
    assert max(np.bincount(fold)) <= 31


def test_out_of_fold_no_row_sees_its_own_fold() -> None:
    """With targets that shift by fold, means out of fold are the others' means."""
    table, _ = given(6)
    fold = table.dataset % 3
    y = fold.astype(float)
    found = out_of_fold(["means"], table, y, fold)["means"]
    for number in range(3):
        assert found[fold == number] == pytest.approx(np.mean([k for k in range(3) if k != number]))


@pytest.mark.parametrize("kind", ["blend", "anchored"])
def test_a_blend_out_of_fold_is_the_mean_of_its_members(kind: str) -> None:
    table, y = given(2)
    fold = table.dataset % 2
    found = out_of_fold([kind], table, y, fold)[kind]
    blend = make_regressor(kind)
    blend.fit(table.take(np.flatnonzero(fold == 1)), y[fold == 1])
    assert found[fold == 0].tolist() == blend.predict(table.take(np.flatnonzero(fold == 0))).tolist()


def test_the_blend_gives_way_to_what_is_clearly_better(monkeypatch: pytest.MonkeyPatch) -> None:
    table, y = given(20)
    monkeypatch.setitem(regressors._BLENDS, "blend", {"additive": 1.0})
    assert select_regressor(table, y, table.dataset, ["ridge", "blend"]).name == "ridge"


def test_the_choice_is_the_least_regret_out_of_fold() -> None:
    table, y = given(20)
    found = select_regressor(table, y, table.dataset, ["means", "ridge"])
    assert found.name == "ridge"
    assert found.validation["ridge"]["regret"] < found.validation["means"]["regret"]
    regret = regrets(table.tasks(), y, found.out_of_fold).mean()
    assert regret == pytest.approx(found.validation["ridge"]["regret"])
    # The blend stays, unless another is clearly better.
    assert select_regressor(table, y, table.dataset, ["ridge", "blend"]).name == "blend"
    # Where there is nothing to learn of datasets, the means are no worse than what looks at them.
    noise = np.random.default_rng(0).standard_normal(len(y)) + 3 * table.method
    assert select_regressor(table, noise, table.dataset, ["means", "trees"]).validation["means"]["mse"] < 1.3
