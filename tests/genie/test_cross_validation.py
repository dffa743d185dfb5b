"""Intervals hold on groups not seen; the judgement counts what it says, on data that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
from genie_kit import METHODS, NAMES, make_cells, make_features

from distill_at_scale.genie import cross_validation as module
from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.cross_validation import cross_validate, method_scores
from distill_at_scale.genie.regressors import regrets
from distill_at_scale.genie.table import Encoder, Table


def given(n: int, noise: float, seed: int = 0) -> tuple[Table, np.ndarray]:
    features = make_features(n, seed)
    cells = make_cells(features, noise, seed + 1)
    number = {fingerprint: k for k, fingerprint in enumerate(features)}
    table = Encoder(NAMES, METHODS).encode(
        list(features.values()),
        cells["method"].to_list(),
        cells["budget"].to_list(),
        [number[f] for f in cells["fingerprint"]],
    )
    return table, cells["kept"].to_numpy()


def test_intervals_hold_nine_of_ten_cells_of_new_groups() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Groups of 24 cells that err together, and more so at small budgets."""
        group = np.repeat(np.arange(n), 24)
        log_budget = np.tile(np.log([0.02, 0.1, 0.5]), 8 * n)
        size = np.where(log_budget < -3, 0.3, 0.1)
        return size * (rng.standard_normal(n)[group] + rng.standard_normal(24 * n)), log_budget, group

    held, wide = [], []
    for _ in range(40):
        residual, log_budget, group = draw(30)
        found = widths(residual, log_budget, group)
        new, at, _ = draw(200)
        held.append((np.abs(new) <= found.at(at)).mean())
        wide.append(found.at(np.log([0.02]))[0] / found.at(np.log([0.5]))[0])
    assert 0.89 < np.mean(held) < 0.95
    assert np.mean(wide) == pytest.approx(3, rel=0.15)


def test_groups_weigh_the_same_however_many_cells_they_have() -> None:
    """One group of 1000 small residuals and nine of one large one: the large ones are nine tenths."""
    residual = np.concatenate([np.full(1000, 0.01), np.full(9, 1.0)])
    group = np.concatenate([np.zeros(1000), np.arange(1, 10)])
    assert widths(residual, np.zeros(1009), group).halves[0] == pytest.approx(1.0)


def test_method_scores_are_means_above_the_task() -> None:
    table, y = given(7, 0.1)
    task = table.tasks()
    for method in range(3):
        above = [y[k] - y[task == task[k]].mean() for k in np.flatnonzero(table.method == method)]
        assert method_scores(table, y)[method] == pytest.approx(np.mean(above))


def test_what_can_be_learned_beats_chance_and_the_best_single_method() -> None:
    table, y = given(16, 0.01)
    found = cross_validate("kept", table, y, table.dataset, ["means", "ridge"])
    assert (found.families, found.tasks, found.cells) == (16, 48, 144)
    assert found.kinds == {"ridge": 6}
    assert found.precision > 0.8 > max(found.single_precision, found.by_budget_precision, found.random_precision)
    assert found.regret < 0.3 * min(found.single_regret, found.random_regret, found.by_budget_regret)
    assert found.mse < 0.3 * found.means_mse
    assert 0.8 < found.coverage <= 1


def test_baselines_count_what_they_say() -> None:
    table, y = given(8, 0.05)
    found = cross_validate("kept", table, y, table.dataset, ["means"], parts=99)
    tasks = [np.flatnonzero(table.tasks() == number) for number in np.unique(table.tasks())]
    assert found.random_precision == pytest.approx(1 / 3)
    assert found.random_regret == pytest.approx(np.mean([y[rows].max() - y[rows].mean() for rows in tasks]))
    hits, short = [], []
    for rows in tasks:
        others = table.dataset != table.dataset[rows[0]]
        best = method_scores(table.take(np.flatnonzero(others)), y[others]).argmax()
        of_best = y[rows][table.method[rows] == best][0]
        hits.append(of_best == y[rows].max())
        short.append(y[rows].max() - of_best)
    assert found.single_precision == pytest.approx(np.mean(hits))
    assert found.single_regret == pytest.approx(np.mean(short))
    # Only means to choose from: what is recommended is the best at the budget.
    assert (found.regret, found.precision) == (found.by_budget_regret, found.by_budget_precision)


def test_nothing_of_a_family_is_seen_before_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two datasets of one family are equal: whoever saw one would know the other."""
    table, y = given(6, 0.0)
    families = table.dataset // 2
    seen: list[set[int]] = []
    real = module.select_regressor

    def select(learned: Table, *rest: object) -> object:
        seen.append(set(learned.dataset.tolist()))
        return real(learned, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "select_regressor", select)
    found = cross_validate("kept", table, y, families, ["means"])
    assert found.families == 3
    assert sorted(map(sorted, seen)) == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5]]


def test_regret_is_what_the_recommended_one_lacks() -> None:
    task, y = np.array([0, 0, 1, 1]), np.array([0.3, 0.8, 0.5, 0.4])
    assert regrets(task, y, np.array([1.0, 0.0, 1.0, 0.0])).tolist() == pytest.approx([0.5, 0.0])
