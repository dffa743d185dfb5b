"""Data-Genie's regressors, which share one interface, and the selection of one on held-out datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.errors import SettingError
from distill_at_scale.genie.networks import Pairwise, Pointwise
from distill_at_scale.genie.ridge import Additive, Means, Ridge
from distill_at_scale.genie.table import Table
from distill_at_scale.genie.trees import Trees


class Regressor(Protocol):
    """Predicts the target of a cell (a dataset, a method, a budget)."""

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was learned."""

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What :meth:`arrays` gave."""


class Blend:
    """A weighted mean of several models, whose errors partly cancel."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """``weights``: kind -> weight; they sum to 1."""
        self._weights = weights
        self._members = {name: _SINGLE[name]() for name in weights}

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        for member in self._members.values():
            member.fit(table, y)

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        return _weighted(self._weights, {name: member.predict(table) for name, member in self._members.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was learned."""
        return {f"{name}/{key}": a for name, member in self._members.items() for key, a in member.arrays().items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What :meth:`arrays` gave."""
        for name, member in self._members.items():
            prefix = f"{name}/"
            member.set_arrays({key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)})


_SINGLE: dict[str, Callable[[], Regressor]] = {
    "additive": Additive,
    "means": Means,
    "ridge": Ridge,
    "trees": Trees,
    "pointwise": Pointwise,
    "pairwise": Pairwise,
}
_LEARNED = ("ridge", "trees", "pointwise", "pairwise")
_BLENDS: dict[str, dict[str, float]] = {
    "blend": {name: 1 / len(_LEARNED) for name in _LEARNED},
    # Shrinks halfway to the additive model: a few dozen datasets estimate the average better than the differences.
    "anchored": {"additive": 0.5, **{name: 0.5 / len(_LEARNED) for name in _LEARNED}},
}
KINDS = (*_SINGLE, *_BLENDS)
"""``additive`` and ``means`` ignore the dataset's features; they are the baselines that the others must beat."""

_DEFAULT = "blend"
FOLDS = 4


def make_regressor(name: str) -> Regressor:
    """Returns a new, untrained regressor.

    Raises:
        SettingError: ``name`` is not a kind of regressor; the message lists the kinds.
    """
    if name not in KINDS:
        raise SettingError(f"'{name}' is not a kind of model; Data-Genie chooses among {', '.join(KINDS)}.")
    return Blend(_BLENDS[name]) if name in _BLENDS else _SINGLE[name]()


def _weighted(weights: Mapping[str, float], predicted: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum([weight * predicted[name] for name, weight in weights.items()], axis=0)


def folds(groups: np.ndarray, n: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Returns the fold of every row, int64 [rows]; groups stay whole and are assigned, the largest first and ties in
    random order, to the fold with the fewest rows."""
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(hashing.stream("genie/folds", seed)).permutation(len(names))
    fold, filled = np.zeros(len(names), dtype=np.int64), np.zeros(n)
    for group in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[place]


def out_of_fold(names: Sequence[str], table: Table, fit_y: np.ndarray, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Returns for every kind float64 [n]: predictions of each row by a model that was not trained on its fold."""
    found = {name: np.empty(len(fit_y)) for name in names}
    blends = {name: _BLENDS[name] for name in names if name in _BLENDS}
    fitted = [name for name in _SINGLE if name in names or any(name in weights for weights in blends.values())]
    for number in np.unique(fold):
        out = fold == number
        train, test = table.take(np.flatnonzero(~out)), table.take(np.flatnonzero(out))
        predicted = {}
        for name in fitted:
            model = make_regressor(name)
            model.fit(train, fit_y[~out])
            predicted[name] = model.predict(test)
        # A blend reuses the predictions of its members.
        predicted |= {name: _weighted(weights, predicted) for name, weights in blends.items()}
        for name in names:
            found[name][out] = predicted[name]
    return found


def regrets(task: np.ndarray, y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns float64 [tasks]: target of the best method minus that of the method with the highest prediction."""
    found = []
    for number in np.unique(task):
        rows = np.flatnonzero(task == number)
        found.append(y[rows].max() - y[rows[predicted[rows].argmax()]])
    return np.array(found)


@dataclass(frozen=True, slots=True)
class SelectedRegressor:
    """The regressor that :func:`select_regressor` selected."""

    name: str
    """The selected kind."""
    validation: dict[str, dict[str, float]]
    """Kind -> regret and mean squared error (``regret``, ``mse``) on held-out groups."""
    out_of_fold: np.ndarray
    """float64 [n], predictions of the selected kind, each by a model that was not trained on the cell's group."""


def select_regressor(
    table: Table,
    y: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str] | None = None,
    fit_y: np.ndarray | None = None,
) -> SelectedRegressor:
    """Selects the kind with the least mean regret on held-out groups; the blend, unless that kind is better by more
    than one standard error over groups.

    With a few dozen groups, noise decides which of eight kinds has the least regret; the blend is good on any data
    (the one-standard-error rule: Breiman et al., "Classification and regression trees", 1984, section 3.4.3).

    Args:
        table, y: Cells and their targets, float64 [n].
        groups: Group of each cell, [n]; a group is never in both training and validation.
        names: Kinds to select from; default: all.
        fit_y: Targets for training in place of ``y``, float64 [n]; validation uses ``y``. Default: ``y``.
    """
    names = list(KINDS if names is None else names)
    predicted = out_of_fold(names, table, y if fit_y is None else fit_y, folds(groups))
    task = table.tasks()
    of_task = {name: regrets(task, y, predicted[name]) for name in names}
    validation = {
        name: {"regret": float(of_task[name].mean()), "mse": float(((y - predicted[name]) ** 2).mean())}
        for name in names
    }
    best = min(names, key=lambda name: (validation[name]["regret"], validation[name]["mse"]))
    if _DEFAULT in names and best != _DEFAULT:
        group = np.array([groups[np.flatnonzero(task == number)[0]] for number in np.unique(task)])
        more = of_task[_DEFAULT] - of_task[best]
        by_group = np.array([more[group == one].mean() for one in np.unique(group)])
        if len(by_group) < 2 or by_group.mean() <= by_group.std(ddof=1) / len(by_group) ** 0.5:
            best = _DEFAULT
    return SelectedRegressor(best, validation, predicted[best])
