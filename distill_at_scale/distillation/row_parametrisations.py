"""Parametrisations of synthetic rows: free numbers, numbers in [0, 1], binary, or the paper's sums of softmax draws."""

from __future__ import annotations

import torch

from distill_at_scale.data import hashing
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig

# Initial distance of binary rows from 0 and 1.
_MARGIN = 0.35


class RowParametrisation:
    """Rows X̂ as a function of the learned parameters Z; this class: free rows, X̂ = Z.

    Attributes:
        name: Name in the manifest of the result.
        paper: Whether the paper's loss is used: likelihood of all items, and a penalty on the rows' sums.
    """

    name = "free"
    paper = False

    def start(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the initial Z for initial rows [μ, n_items]."""
        return rows.clone()

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        """Returns X̂, [μ, n_items]."""
        return z

    def pull_back(self, d_rows: torch.Tensor, z: torch.Tensor, step: int) -> torch.Tensor:
        """Converts ∂/∂X̂ to ∂/∂Z, both [μ, n_items]."""
        return d_rows

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """Projects Z onto the feasible set."""
        return z

    def penalty(self, rows: torch.Tensor, mean_count: float) -> tuple[float, torch.Tensor | float]:
        """Returns a penalty on the rows and its derivative; ``mean_count`` is the mean number of items of a real
        user."""
        return 0.0, 0.0


class UnitRows(RowParametrisation):
    """X̂ = Z in [0, 1], by projection after each step."""

    name = "unit"

    def project(self, z: torch.Tensor) -> torch.Tensor:
        return z.clamp_(0.0, 1.0)


class BinaryRows(UnitRows):
    """X̂ = 1 if Z ≥ ½, else 0. The gradient passes to Z as if X̂ = Z, and Z is kept in [0, 1].

    Source: the straight-through estimator of Bengio, Léonard, Courville, "Estimating or propagating gradients through
    stochastic neurons for conditional computation" (2013), section 4, with the clipping of Courbariaux et al.,
    "Binarized neural networks" (NIPS 2016). Thresholding rows learned as real numbers loses far more quality.
    """

    name = "binary"

    def start(self, rows: torch.Tensor) -> torch.Tensor:
        # Close to the threshold: an entry at 0 or 1 could not change within a few hundred steps.
        return rows.clamp(0.0, 1.0).mul_(1 - 2 * _MARGIN).add_(_MARGIN)

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        return (z >= 0.5).to(z.dtype)


class SoftmaxRows(RowParametrisation):
    """X̂ = hardtanh(S · softmax(Z/τ)): the mean of the paper's draws, which are within 1 % of it at τ = 10.

    Source: Sachdeva et al. (NeurIPS 2022), section 4 and equation 5, for τ → ∞.
    """

    name = "softmax"
    paper = True

    def __init__(self, draws: int, temperature: float, sparsity: float) -> None:
        self._draws, self._temperature, self._sparsity = draws, temperature, sparsity

    def values(self, z: torch.Tensor, step: int) -> torch.Tensor:
        return self._sums(z, step).clamp_max(1.0)

    def pull_back(self, d_rows: torch.Tensor, z: torch.Tensor, step: int) -> torch.Tensor:
        return self._slope(torch.where(self._sums(z, step) < 1.0, d_rows, 0.0), z, step)

    def penalty(self, rows: torch.Tensor, mean_count: float) -> tuple[float, torch.Tensor | float]:
        price = self._sparsity / mean_count / len(rows)
        return price * float(rows.sum()), torch.full_like(rows, price)

    def _sums(self, z: torch.Tensor, step: int) -> torch.Tensor:
        return self._draws * torch.softmax(z / self._temperature, dim=1)

    def _slope(self, d_sums: torch.Tensor, z: torch.Tensor, step: int) -> torch.Tensor:
        return self._draws * self._softmax_slope(d_sums, torch.softmax(z / self._temperature, dim=1))

    def _softmax_slope(self, cotangent: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return p * (cotangent - (cotangent * p).sum(1, keepdim=True)) / self._temperature


class GumbelRows(SoftmaxRows):
    """X̂ = hardtanh(Σ_{s ≤ S} softmax((Z + g_s)/τ)), with new Gumbel noise g_s at every step.

    Draws are computed one after another, and recomputed in the backward pass, so memory does not grow with S.
    """

    name = "gumbel"

    def __init__(self, draws: int, temperature: float, sparsity: float, seed: int) -> None:
        super().__init__(draws, temperature, sparsity)
        self._seed = seed

    def _sums(self, z: torch.Tensor, step: int) -> torch.Tensor:
        total = torch.zeros_like(z)
        for draw in range(self._draws):
            total += self._drawn(z, step, draw)
        return total

    def _slope(self, d_sums: torch.Tensor, z: torch.Tensor, step: int) -> torch.Tensor:
        total = torch.zeros_like(z)
        for draw in range(self._draws):
            total += self._softmax_slope(d_sums, self._drawn(z, step, draw))
        return total

    def _drawn(self, z: torch.Tensor, step: int, draw: int) -> torch.Tensor:
        # Drawn on the CPU, so that a GPU gets the same numbers.
        generator = torch.Generator().manual_seed(hashing.stream("distill_cf/gumbel", self._seed, step, draw))
        noise = -torch.empty(z.shape, dtype=z.dtype).exponential_(generator=generator).log()
        return torch.softmax((z + noise.to(z.device)) / self._temperature, dim=1)


def find_parametrisation(config: DistillCFConfig) -> RowParametrisation:
    """Returns the parametrisation of the settings."""
    if config.rows == "gumbel":
        return GumbelRows(config.draws, config.temperature, config.sparsity, config.seed)
    if config.rows == "softmax":
        return SoftmaxRows(config.draws, config.temperature, config.sparsity)
    if config.rows == "binary":
        return BinaryRows()
    return UnitRows() if config.rows == "unit" else RowParametrisation()
