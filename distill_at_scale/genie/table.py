"""What Data-Genie's models see of a cell (a dataset, a method, a budget), as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.genie.features import feature_vector

_OF_BUDGET = ("log_budget", "log_rows_kept", "log_user_mean_kept", "log_item_mean_kept", "log_users_kept")
_SCALE_FLOOR = 1e-6


@dataclass(frozen=True)
class Table:
    """Cells side by side.

    Attributes:
        x: float64 [n, p], features of the dataset and of the budget, see :meth:`Encoder.columns`.
        method: int64 [n], number of the method.
        log_budget: float64 [n].
        dataset: int64 [n], number of the dataset.
        n_methods: how many methods there are.
    """

    x: np.ndarray
    method: np.ndarray
    log_budget: np.ndarray
    dataset: np.ndarray
    n_methods: int

    def __len__(self) -> int:
        return len(self.method)

    def take(self, rows: np.ndarray) -> Table:
        """Some of the cells."""
        return Table(self.x[rows], self.method[rows], self.log_budget[rows], self.dataset[rows], self.n_methods)

    @property
    def one_hot(self) -> np.ndarray:
        """float64 [n, n_methods]."""
        return np.eye(self.n_methods)[self.method]

    def tasks(self) -> np.ndarray:
        """int64 [n]: the same number for the cells that a choice is between: those of one dataset and one budget."""
        _, number = np.unique(np.stack([self.dataset, self.log_budget]), axis=1, return_inverse=True)
        return number.reshape(-1)


@dataclass(frozen=True)
class Encoder:
    """How features become columns.

    Attributes:
        names: Names of the dataset features, in the order of the columns.
        methods: the methods, in the order of their numbers.
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
        """A table of as many cells as ``methods`` has; ``datasets`` says whose ``features`` are whose."""
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
    """Columns to mean 0 and deviation 1, and no farther out than what it was fitted on.

    Attributes:
        mean, deviation, low, high: float64 [p].
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Scaler:
        """To the columns of x [n, p]."""
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
