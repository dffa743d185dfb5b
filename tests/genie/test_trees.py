"""Boosted trees: a tree against exhaustive search, boosting against plain sums, and what they can and cannot learn."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.genie.table import Table
from distill_at_scale.genie.trees import Trees, TreesConfig


def table(x: np.ndarray, method: np.ndarray | None = None, n_methods: int = 1) -> Table:
    n = len(x)
    zeros = np.zeros(n, dtype=np.int64)
    return Table(x, zeros if method is None else method, np.zeros(n), zeros, n_methods)


def exact(**settings: float) -> TreesConfig:
    """Every row and every column, and bins enough for each distinct value."""
    return TreesConfig(**{"rows": 1.0, "columns": 1.0, "bins": 64, **settings})  # type: ignore[arg-type]


def best_split(x: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """By trying all: the largest gain of splitting these rows once."""

    def score(values: np.ndarray) -> float:
        return float(values.sum() ** 2 / (len(values) + penalty))

    gains = [0.0]
    for column in x.T:
        for edge in np.unique(column)[:-1]:
            left = column <= edge
            gains.append(score(y[left]) + score(y[~left]) - score(y))
    return max(gains)


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_one_split_is_the_best_of_all(penalty: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 8, (40, 3)).astype(float)
    y = rng.standard_normal(40) + x[:, 1]
    trees = Trees(exact(trees=1, depth=1, rate=1.0, penalty=penalty))
    trees.fit(table(x), y)
    residual = y - y.mean()
    predicted = trees.predict(table(x)) - y.mean()
    # Two leaves with value Σ/(n + λ): their gain is Σ of residual × value.
    groups = np.unique(predicted)
    assert len(groups) == 2
    gain = float(residual @ predicted) - residual.sum() ** 2 / (40 + penalty)
    assert gain == pytest.approx(best_split(x, residual, penalty), rel=1e-9)
    for value in groups:
        of_leaf = residual[predicted == value]
        assert value == pytest.approx(of_leaf.sum() / (len(of_leaf) + penalty))


def test_trees_add_up_what_the_ones_before_left() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 2)), rng.standard_normal(60)
    whole = Trees(exact(trees=3, depth=2, rate=0.5, penalty=1.0))
    whole.fit(table(x), y)
    left, total = y, np.zeros(60)
    for _ in range(3):
        one = Trees(exact(trees=1, depth=2, rate=0.5, penalty=1.0))
        one.fit(table(x), left)
        # A tree alone begins with its mean; the residuals' mean is 0 but for the leaves' penalty.
        step = one.predict(table(x))
        left, total = left - step, total + step
    assert np.mean((y - whole.predict(table(x))) ** 2) == pytest.approx(np.mean(left**2), rel=0.15)


def test_deep_trees_learn_any_table_by_heart() -> None:
    rng = np.random.default_rng(2)
    x = rng.permutation(32)[:, None].astype(float)
    y = rng.standard_normal(32)
    trees = Trees(exact(trees=200, depth=5, rate=0.3, penalty=0.0))
    trees.fit(table(x), y)
    assert trees.predict(table(x)) == pytest.approx(y, abs=1e-4)


def test_interactions_of_method_and_feature_are_learned() -> None:
    rng = np.random.default_rng(3)
    x, method = rng.standard_normal((600, 4)), rng.integers(0, 2, 600)
    y = np.where(method == 0, x[:, 0], -x[:, 0]) + 0.05 * rng.standard_normal(600)
    trees = Trees(TreesConfig(trees=200))
    trees.fit(table(x[:400], method[:400], 2), y[:400])
    error = np.mean((trees.predict(table(x[400:], method[400:], 2)) - y[400:]) ** 2)
    assert error < 0.25 * y.var()


def test_the_same_seed_gives_the_same_trees_and_saving_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((100, 3)), rng.standard_normal(100)
    first, second = Trees(TreesConfig(trees=20)), Trees(TreesConfig(trees=20))
    first.fit(table(x), y)
    second.fit(table(x), y)
    other = Trees(TreesConfig(depth=2))
    other.set_arrays(first.arrays())
    new = rng.standard_normal((50, 3))
    assert first.predict(table(new)).tolist() == second.predict(table(new)).tolist()
    assert first.predict(table(new)).tolist() == other.predict(table(new)).tolist()


def test_a_constant_target_is_predicted_as_it_is() -> None:
    trees = Trees(TreesConfig(trees=5))
    trees.fit(table(np.zeros((10, 2))), np.full(10, 0.7))
    assert trees.predict(table(np.ones((3, 2)))) == pytest.approx([0.7, 0.7, 0.7])
