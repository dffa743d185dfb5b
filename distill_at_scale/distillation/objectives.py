"""What Distill-CF learns: parameters, and the loss on one worker's users with its derivative; dense or factored."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.distillation import factored_rows, losses
from distill_at_scale.distillation.differentiable_krr import Histories, RidgePrediction
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.factored_start import factors_of, initial_factors
from distill_at_scale.distillation.row_parametrisations import RowParametrisation, find_parametrisation
from distill_at_scale.distillation.sketch import initial_rows
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.synthetic_rows import FactoredRows, RowValues

# Learning rate of learned item vectors, of the root mean square of their entries.
_VECTORS_RATE = 0.2


class Objective(Protocol):
    """Parameters Z, and the rows that they make.

    Attributes:
        family: Kind of rows, for readers.
        start: Initial Z, two-dimensional.
        rate: Learning rate of each entry of Z; broadcasts.
    """

    family: str
    start: torch.Tensor
    rate: float | torch.Tensor

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        """Returns what Z makes at a step, for :meth:`rows`."""

    def rows(self, values: torch.Tensor) -> RowValues:
        """Returns synthetic rows."""

    def loss(
        self, values: torch.Tensor, log_lam: float, inputs: sp.csr_array, hidden: sp.csr_array
    ) -> tuple[float, torch.Tensor, float]:
        """Returns the loss summed over users, its derivative with respect to the values, and to log λ."""

    def pull_back(self, d_values: torch.Tensor, z: torch.Tensor, step: int) -> tuple[float, torch.Tensor]:
        """Returns the penalty on the rows, and ∂/∂Z of loss and penalty, from the loss's derivative."""

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """Projects Z onto the feasible set."""

    def state(self) -> dict[str, torch.Tensor]:
        """Returns further tensors of a checkpoint."""

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restores :meth:`state`."""


class DenseObjective:
    """Rows of all items, by a parametrisation; a step touches users × items numbers."""

    def __init__(
        self,
        config: DistillCFConfig,
        users: RealUsers,
        rate: float,
        device: torch.device,
        start: torch.Tensor | None = None,
    ) -> None:
        self._rows: RowParametrisation = find_parametrisation(config)
        self.family = f"{self._rows.name} of the paper" if self._rows.paper else self._rows.name
        if start is None:
            start = initial_rows(config.initialisation, config.users or 1, users, config.seed)
        self.start = self._rows.start(start.to(device))
        self.rate: float | torch.Tensor = rate
        self._mean_count, self._device = users.n_rows / users.n_filled, device

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        return self._rows.values(z, step)

    def rows(self, values: torch.Tensor) -> RowValues:
        found: np.ndarray = values.cpu().numpy()
        return found

    def loss(
        self, values: torch.Tensor, log_lam: float, inputs: sp.csr_array, hidden: sp.csr_array
    ) -> tuple[float, torch.Tensor, float]:
        histories = Histories(inputs, values.dtype, self._device)
        predicted = RidgePrediction(histories, values, math.exp(log_lam))
        measure = losses.likelihood if self._rows.paper else losses.hidden_squares
        loss, slope = measure(predicted.predictions, histories.dense, losses.dense(hidden, values))
        d_rows, d_log_lam = predicted.backward(slope)
        return float(loss), d_rows, d_log_lam

    def pull_back(self, d_values: torch.Tensor, z: torch.Tensor, step: int) -> tuple[float, torch.Tensor]:
        penalty, d_penalty = self._rows.penalty(self._rows.values(z, step), self._mean_count)
        return penalty, self._rows.pull_back(d_values + d_penalty, z, step)

    def project(self, z: torch.Tensor) -> torch.Tensor:
        return self._rows.project(z)

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Does nothing: Z is all there is."""


class FactoredObjective:
    """Free rows S = Z Vᵀ, on the CPU. Z is learned; if V is learned too, the parameters are Z above V."""

    def __init__(
        self, config: DistillCFConfig, users: RealUsers, rate: float, start: torch.Tensor | None = None
    ) -> None:
        assert config.rank is not None
        self.family = "factored"
        if start is None:
            rows = initial_factors(config.initialisation, config.users or 1, config.rank, users, config.seed)
        else:
            rows = factors_of(start, config.rank)
        self._vectors = factored_rows.ItemVectors(rows.v)
        self._n, self._learn = len(rows), config.learns_vectors(users.n_items)
        z, v = torch.from_numpy(rows.z), torch.from_numpy(rows.v)
        self.start = torch.cat((z, v)) if self._learn else z
        self.rate: float | torch.Tensor = rate
        if self._learn:
            own = _VECTORS_RATE * float(v.square().mean().sqrt())
            self.rate = torch.cat((torch.full((len(z), 1), rate), torch.full((len(v), 1), own)))

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        return z

    def rows(self, values: torch.Tensor) -> FactoredRows:
        v = values[self._n :].numpy() if self._learn else self._vectors.values
        return FactoredRows(values[: self._n].numpy(), v)

    def loss(
        self, values: torch.Tensor, log_lam: float, inputs: sp.csr_array, hidden: sp.csr_array
    ) -> tuple[float, torch.Tensor, float]:
        vectors = factored_rows.ItemVectors(values[self._n :].numpy()) if self._learn else self._vectors
        slopes = factored_rows.hidden_squares(values[: self._n], log_lam, vectors, inputs, hidden, self._learn)
        d_values = slopes.z if slopes.v is None else torch.cat((slopes.z, slopes.v))
        return slopes.loss, d_values, slopes.log_lam

    def pull_back(self, d_values: torch.Tensor, z: torch.Tensor, step: int) -> tuple[float, torch.Tensor]:
        return 0.0, d_values

    def project(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def state(self) -> dict[str, torch.Tensor]:
        # Z means nothing without V, whose singular vectors depend on the order in which workers sum.
        return {} if self._learn else {"v": torch.from_numpy(self._vectors.values)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        if not self._learn:
            self._vectors = factored_rows.ItemVectors(tensors["v"].numpy())


def objective_of(
    config: DistillCFConfig, users: RealUsers, rate: float, device: torch.device, start: torch.Tensor | None = None
) -> Objective:
    """Returns the objective of the settings; ``start``: initial rows, if they are given."""
    if config.rank is not None:
        return FactoredObjective(config, users, rate, start)
    return DenseObjective(config, users, rate, device, start)
