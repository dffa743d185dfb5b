"""Data-Genie's networks: a pointwise network that predicts the retention of a method, and a pairwise ranking network.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 5: features and
embeddings → linear to 64 → dropout 0.2 → ReLU → 1. The number of training steps is a setting here; it was chosen on
datasets held out of training, not on the test datasets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill_at_scale.genie.network_config import NetworkConfig
from distill_at_scale.genie.table import Scaler, Table

_WEIGHTS = ("methods.weight", "hidden.weight", "hidden.bias", "out.weight", "out.bias")


class _Trained:
    """Base of both networks: inputs, weights, and the map from scores to targets, centre + half · f(score)."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or NetworkConfig()
        self._scaler = Scaler.fit(np.zeros((1, 0)))
        self._scale = np.array([0.0, 1.0])
        self._network: dict[str, np.ndarray] = {}

    def _inputs(self, table: Table) -> np.ndarray:
        return self._scaler(table.x).astype(np.float32)

    def _score(self, table: Table) -> np.ndarray:
        assert self._network, "fit or set_arrays comes first"
        weights = self._network
        x = np.concatenate((self._inputs(table), weights["methods.weight"][table.method]), axis=1)
        hidden = np.maximum(x @ weights["hidden.weight"].T + weights["hidden.bias"], 0.0)
        score: np.ndarray = (hidden @ weights["out.weight"][0] + weights["out.bias"]).astype(np.float64)
        return score

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        assert self._network, "fit comes first"
        scaler = {f"scaler.{name}": array for name, array in self._scaler.arrays().items()}
        return {"scale": self._scale, **scaler, **{f"network.{name}": a for name, a in self._network.items()}}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        self._scale = arrays["scale"]
        self._scaler = Scaler.of_arrays(
            {name: arrays[f"scaler.{name}"] for name in ("mean", "deviation", "low", "high")}
        )
        # Of the saved shapes, since the network may have been trained with other settings.
        self._network = {name: arrays[f"network.{name}"] for name in _WEIGHTS}


class Pointwise(_Trained):
    """Predicts a cell's target: centre + half · tanh(score), by squared error."""

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        from distill_at_scale.genie import network_training

        centre = float(y.mean())
        # Targets are scaled to |tanh| ≤ 0.8, where its gradient does not vanish.
        half = max(float(np.abs(y - centre).max()) / 0.8, 1e-6)
        self._scale = np.array([centre, half])
        target = ((y - centre) / half).astype(np.float32)
        self._scaler = Scaler.fit(table.x)
        self._network = network_training.pointwise(
            self.config, self._inputs(table), table.method, table.n_methods, target
        )

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        return self._scale[0] + self._scale[1] * np.tanh(self._score(table))


class Pairwise(_Trained):
    """Ranks the methods of a dataset at a budget, by the loss −log σ(s⁺ − s⁻) over pairs of methods.

    The scores are not on the scale of the targets; least squares on the training cells, with an intercept for every
    budget, maps them to predictions.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__(config)
        self._budgets = np.zeros(0)
        self._levels = np.zeros(0)

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        from distill_at_scale.genie import network_training

        better, worse = pairs(table.tasks(), y)
        self._scaler = Scaler.fit(table.x)
        self._network = network_training.pairwise(
            self.config, self._inputs(table), table.method, table.n_methods, better, worse
        )
        self._calibrate(table, y)

    def _calibrate(self, table: Table, y: np.ndarray) -> None:
        """Fits a slope within tasks and an intercept per budget, so that residuals have mean 0 at every budget."""
        score, task = self._score(table), table.tasks()
        counts = np.bincount(task)
        s = score - (np.bincount(task, score) / counts)[task]
        d = y - (np.bincount(task, y) / counts)[task]
        slope = max(float(s @ d) / max(float(s @ s), 1e-12), 0.0)
        self._scale = np.array([0.0, slope])
        self._budgets, place = np.unique(table.log_budget, return_inverse=True)
        self._levels = np.bincount(place, y - slope * score) / np.bincount(place)

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        return np.interp(table.log_budget, self._budgets, self._levels) + self._scale[1] * self._score(table)

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {**super().arrays(), "budgets": self._budgets, "levels": self._levels}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        super().set_arrays(arrays)
        self._budgets, self._levels = arrays["budgets"], arrays["levels"]


def pairs(task: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 [m] twice: the better and the worse row of every pair in one task whose targets differ."""
    better, worse = [], []
    for number in np.unique(task):
        rows = np.flatnonzero(task == number)
        first, second = np.nonzero(y[rows][:, None] > y[rows][None, :])
        better.append(rows[first])
        worse.append(rows[second])
    return np.concatenate(better), np.concatenate(worse)
