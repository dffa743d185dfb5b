"""Linear models of a cell: means by method and budget, and ridge regression on all features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.linalg
from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.genie.table import Scaler, Table


class Means:
    """Predicts each method's mean over the datasets at each budget, interpolated linearly in log(budget).

    Uses no features of the dataset: the baseline that always recommends the method that is best on average.
    """

    def __init__(self) -> None:
        self._budgets = np.zeros(0)
        self._means = np.zeros((0, 0))

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        self._budgets, place = np.unique(table.log_budget, return_inverse=True)
        shape = (table.n_methods, len(self._budgets))
        cell = table.method * shape[1] + place
        counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
        sums = np.bincount(cell, y, shape[0] * shape[1]).reshape(shape)
        # A method never tried at a budget gets the mean of all methods there.
        overall = sums.sum(0) / np.maximum(counts.sum(0), 1)
        self._means = np.where(counts > 0, sums / np.maximum(counts, 1), overall)

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        found = np.empty(len(table))
        for method in np.unique(table.method):
            rows = table.method == method
            found[rows] = np.interp(table.log_budget[rows], self._budgets, self._means[method])
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {"budgets": self._budgets, "means": self._means}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        self._budgets, self._means = arrays["budgets"], arrays["means"]


class Additive(Means):
    """Predicts the budget's mean plus the method's mean offset over all budgets.

    Has far fewer parameters than :class:`Means`, hence less variance; it recommends one method for every budget.
    """

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        budgets, place = np.unique(table.log_budget, return_inverse=True)
        of_budget = np.bincount(place, y) / np.bincount(place)
        counts = np.bincount(table.method, minlength=table.n_methods)
        above = np.bincount(table.method, y - of_budget[place], table.n_methods) / np.maximum(counts, 1)
        self._budgets, self._means = budgets, above[:, None] + of_budget[None, :]


class RidgeConfig(BaseModel):
    """Settings of ridge regression."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    penalty: float = Field(default=0.15, gt=0)
    """λ per row, for columns of standard deviation 1."""


class Ridge:
    """Ridge regression on the residuals of :class:`Means`, from features, budget, and their products with each
    method."""

    def __init__(self, config: RidgeConfig | None = None) -> None:
        self.config = config or RidgeConfig()
        self._means = Means()
        self._weights = np.zeros(0)
        self._scaler = Scaler.fit(np.zeros((1, 0)))

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        self._means.fit(table, y)
        self._scaler = Scaler.fit(table.x)
        x, left = self._inputs(table), y - self._means.predict(table)
        gram = x.T @ x + self.config.penalty * len(x) * np.eye(x.shape[1])
        self._weights = scipy.linalg.solve(gram, x.T @ left, assume_a="pos")

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        return self._means.predict(table) + self._inputs(table) @ self._weights

    def _inputs(self, table: Table) -> np.ndarray:
        x = self._scaler(table.x)
        crossed = (table.one_hot[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        return np.column_stack([x, crossed])

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        scaler = {f"scaler.{name}": array for name, array in self._scaler.arrays().items()}
        means = {f"means.{name}": array for name, array in self._means.arrays().items()}
        return {"weights": self._weights, **scaler, **means}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        self._weights = arrays["weights"]
        self._scaler = Scaler.of_arrays(
            {name: arrays[f"scaler.{name}"] for name in ("mean", "deviation", "low", "high")}
        )
        self._means.set_arrays({name: arrays[f"means.{name}"] for name in ("budgets", "means")})


def nonnegative_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the intercept and the slope of least squares, neither below 0; both are 0 without points.

    Solved here, since the library that has a solver for any number of columns takes most of a second to load. If the
    free solution is negative somewhere, the best one has a zero, as the objective is convex.

    Args:
        x: float64 [n], not all 0.
        y: float64 [n], not negative.
    """
    if not len(x):
        return 0.0, 0.0
    free, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), y, rcond=None)
    tried = [(float(y.mean()), 0.0), (0.0, float(x @ y / (x @ x)))]
    if free.min() >= 0:
        tried.append((float(free[0]), float(free[1])))
    return min(tried, key=lambda line: float(((line[0] + line[1] * x - y) ** 2).sum()))
