"""Input of Data-Genie's regressors: cells (a dataset, a method, a budget) as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.genie.features import feature_vector

_OF_BUDGET = ("log_budget", "log_rows_kept", "log_user_mean_kept", "log_item_mean_kept", "log_users_kept")
_SCALE_FLOOR = 1e-6


@dataclass(frozen=True)
class Table:
    """A table of n cells.

    Attributes:
        x: float64 [n, p], features of the dataset and of the budget, see :attr:`Encoder.columns`.
        method: int64 [n], number of the method.
        log_budget: float64 [n].
        dataset: int64 [n], number of the dataset.
        n_methods: Number of methods.
    """

    x: np.ndarray
    method: np.ndarray
    log_budget: np.ndarray
    dataset: np.ndarray
    n_methods: int

    def __len__(self) -> int:
        return len(self.method)

    def take(self, rows: np.ndarray) -> Table:
        """Returns the cells at the positions ``rows``."""
        return Table(self.x[rows], self.method[rows], self.log_budget[rows], self.dataset[rows], self.n_methods)

    @property
    def one_hot(self) -> np.ndarray:
        """Indicator columns of the method, float64 [n, n_methods]."""
        return np.eye(self.n_methods)[self.method]

    def tasks(self) -> np.ndarray:
        """Returns the task number of each cell, int64 [n]; a task is the choice among the methods for one dataset and
        budget."""
        _, number = np.unique(np.stack([self.dataset, self.log_budget]), axis=1, return_inverse=True)
        return number.reshape(-1)


@dataclass(frozen=True)
class Encoder:
    """Turns features into columns.

    Attributes:
        names: Names of the dataset features, in the order of the columns.
        methods: Names of the methods, in the order of their numbers.
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``x``."""
        return self.names + _OF_BUDGET

    def encode(
        self,
        features: Sequence[Mapping[str, float]],
        methods: Sequence[str],
        budgets: Sequence[float],
        datasets: Sequence[int],
    ) -> Table:
        """Returns a table with one cell for each entry of ``methods``, ``budgets`` and ``datasets``; the latter are
        positions in ``features``."""
        of_dataset = np.stack([feature_vector(one, self.names) for one in features])
        dataset = np.asarray(datasets, dtype=np.int64)
        log_budget = np.log(np.asarray(budgets, dtype=np.float64))

        def kept(name: str) -> np.ndarray:
            return np.array([features[k][name] for k in dataset]) + log_budget

        of_budget = [log_budget, kept("log_rows"), kept("log_user_mean"), kept("log_item_mean"), kept("log_users")]
        number = {name: k for k, name in enumerate(self.methods)}
        return Table(
            x=np.column_stack([of_dataset[dataset], *of_budget]),
            method=np.array([number[name] for name in methods], dtype=np.int64),
            log_budget=log_budget,
            dataset=dataset,
            n_methods=len(self.methods),
        )


@dataclass(frozen=True)
class Scaler:
    """Standardises columns to mean 0 and standard deviation 1, after clipping them to the range of the training data.

    Attributes:
        mean, deviation, low, high: float64 [p].
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Scaler:
        """Fits to the columns of x [n, p]."""
        return cls(x.mean(0), np.maximum(x.std(0), _SCALE_FLOOR), x.min(0), x.max(0))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (np.clip(x, self.low, self.high) - self.mean) / self.deviation

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {"mean": self.mean, "deviation": self.deviation, "low": self.low, "high": self.high}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Scaler:
        """What was saved."""
        return cls(*(arrays[name] for name in ("mean", "deviation", "low", "high")))
