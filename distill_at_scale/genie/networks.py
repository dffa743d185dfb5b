"""Data-Genie's networks: a pointwise network that predicts the retention of a method, and a pairwise ranking network.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 5: features and
embeddings → linear to 64 → dropout 0.2 → ReLU → 1. The number of training steps is a setting here; it was chosen on
datasets held out of training, not on the test datasets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from distill_at_scale.data import hashing
from distill_at_scale.genie.table import Scaler, Table


class NetworkConfig(BaseModel):
    """Settings of both networks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=1)
    embedding: int = Field(default=8, ge=1)
    """Width of a method's embedding."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    steps: int = Field(default=150, ge=1)
    """Number of full-batch training steps."""
    rate: float = Field(default=1e-2, gt=0)
    decay: float = Field(default=1e-2, ge=0)
    """Weight decay, decoupled (AdamW)."""
    seed: int = Field(default=0, ge=0)


class _Network(nn.Module):
    def __init__(self, columns: int, methods: int, embedding: int, width: int, dropout: float) -> None:
        super().__init__()
        self.methods = nn.Embedding(methods, embedding)
        self.hidden = nn.Linear(columns + embedding, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, method: torch.Tensor) -> torch.Tensor:
        """Returns one score per cell, float32 [n]."""
        hidden = self.dropout(self.hidden(torch.cat([x, self.methods(method)], dim=1)))
        return self.out(functional.relu(hidden)).squeeze(1)


class _Trained:
    """Base of both networks: inputs, weights, and the map from scores to targets, centre + half · f(score)."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or NetworkConfig()
        self._scaler = Scaler.fit(np.zeros((1, 0)))
        self._scale = np.array([0.0, 1.0])
        self._network: _Network | None = None

    def _begin(self, table: Table) -> tuple[_Network, torch.Tensor, torch.Tensor]:
        self._scaler = Scaler.fit(table.x)
        c = self.config
        self._network = _Network(table.x.shape[1], table.n_methods, c.embedding, c.width, c.dropout)
        return self._network, *self._inputs(table)

    def _optimizer(self, network: _Network) -> torch.optim.AdamW:
        return torch.optim.AdamW(network.parameters(), lr=self.config.rate, weight_decay=self.config.decay)

    def _inputs(self, table: Table) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self._scaler(table.x).astype(np.float32)), torch.from_numpy(table.method)

    def _score(self, table: Table) -> np.ndarray:
        assert self._network is not None, "fit or set_arrays comes first"
        self._network.eval()
        with torch.no_grad():
            return self._network(*self._inputs(table)).double().numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        assert self._network is not None, "fit comes first"
        scaler = {f"scaler.{name}": array for name, array in self._scaler.arrays().items()}
        weights = {f"network.{name}": tensor.numpy() for name, tensor in self._network.state_dict().items()}
        return {"scale": self._scale, **scaler, **weights}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        self._scale = arrays["scale"]
        self._scaler = Scaler.of_arrays(
            {name: arrays[f"scaler.{name}"] for name in ("mean", "deviation", "low", "high")}
        )
        # The saved shapes, since the network may have been trained with other settings.
        methods, embedding = arrays["network.methods.weight"].shape
        width = len(arrays["network.hidden.bias"])
        self._network = _Network(len(self._scaler.mean), methods, embedding, width, self.config.dropout)
        prefix = "network."
        weights = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        self._network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})


class Pointwise(_Trained):
    """Predicts a cell's target: centre + half · tanh(score), by squared error."""

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        centre = float(y.mean())
        # Targets are scaled to |tanh| ≤ 0.8, where its gradient does not vanish.
        half = max(float(np.abs(y - centre).max()) / 0.8, 1e-6)
        self._scale = np.array([centre, half])
        target = torch.from_numpy(((y - centre) / half).astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashing.stream("genie/pointwise", self.config.seed))
            network, x, method = self._begin(table)
            optimizer = self._optimizer(network)
            network.train()
            for _ in range(self.config.steps):
                optimizer.zero_grad()
                functional.mse_loss(torch.tanh(network(x, method)), target).backward()
                optimizer.step()

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
        better, worse = pairs(table.tasks(), y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashing.stream("genie/pairwise", self.config.seed))
            network, x, method = self._begin(table)
            optimizer = self._optimizer(network)
            network.train()
            first, second = torch.from_numpy(better), torch.from_numpy(worse)
            for _ in range(self.config.steps):
                optimizer.zero_grad()
                score = network(x, method)
                functional.softplus(score[second] - score[first]).mean().backward()
                optimizer.step()
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
