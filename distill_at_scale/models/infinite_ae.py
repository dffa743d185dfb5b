"""∞-AE: an autoencoder of infinite width, which is kernel ridge regression with a neural tangent kernel."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.base import ModelConfig, Precision, Recommender, expect_shape
from distill_at_scale.models.device import Device, resolve_device
from distill_at_scale.models.krr import KernelRidge
from distill_at_scale.models.linalg import FLOAT32_CONDITION
from distill_at_scale.models.ntk import BLOCK_USERS, TrainUsers, ntk_diagonal
from distill_at_scale.models.selection import METRIC_PATTERN, Progress, select, validation_metric


class InfiniteAEConfig(ModelConfig):
    """Settings of ∞-AE."""

    lam: float | None = Field(default=None, gt=0)
    """λ > 0, relative to the kernel's mean diagonal; None: chosen on validation."""
    grid: tuple[PositiveFloat, ...] = Field(default=(1, 2, 5, 10, 20, 50, 100), min_length=1)
    """The λ tried on validation; goes on beyond an edge where that is the best."""
    metric: str = Field(default="hr@100", pattern=METRIC_PATTERN)
    """Validation metric; hr@100, by which the reference implementation chooses."""
    dtype: Precision = "auto"
    """Precision of kernel and solve; auto: float64 where float32 could lose more than three digits."""
    device: Device = "auto"
    """Where kernel and solve run; auto: the GPU when there is one."""


class InfiniteAE(Recommender):
    """P = K(histories, train) (K(train, train) + λ' I)^-1 X with λ' = λ · mean diagonal of K.

    Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks: a data-centric approach"
    (NeurIPS 2022), equation 2. New users need no new fit: their history is compared with the train users'.

    Practical limits: kernel and factor are users × users, the solution users × items. 6,040 users × 3,706
    items take .6 GiB and a minute of one core with the grid; 40,000 users × 20,000 items 21 GiB and hours.
    Flops grow as U³/3 + 2 U² I a λ. With more users, fit a sample of them.
    """

    name: ClassVar[str] = "infinite_ae"
    Config: ClassVar[type[ModelConfig]] = InfiniteAEConfig
    instead: ClassVar[str] = (
        "fit it on a sample of the users, or take a model whose memory does not grow with users × users "
        "(ease, svd_ae, popularity)"
    )
    config: InfiniteAEConfig

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        lams = config.grid if config.lam is None else (config.lam,)
        itemsize = 4 if all(_dtype(config, n_users, lam) == torch.float32 for lam in lams) else 8
        # Kernel and factor; the solution, the best so far and one transposition of it.
        return itemsize * (2 * n_users**2 + 3 * n_users * n_items) + 48 * BLOCK_USERS * n_users + 24 * n_rows

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        users = TrainUsers(train)
        self._users = users
        mean_diagonal = float(ntk_diagonal(users.norms, train.n_items).mean())
        device = resolve_device(self.config.device)
        if self.config.lam is not None:
            lam = self.config.lam
            ridge = self._ridge(users, _dtype(self.config, len(users), lam), device)
            self._set_alpha(ridge.solve(lam * mean_diagonal))
            return
        heldout = self._validation_or_refuse(validation, "lam")
        ridges: dict[torch.dtype, KernelRidge] = {}

        def try_value(lam: float) -> tuple[float, np.ndarray]:
            dtype = _dtype(self.config, len(users), lam)
            if dtype not in ridges:
                ridges.clear()
                ridges[dtype] = self._ridge(users, dtype, device)
            alpha = ridges[dtype].solve(lam * mean_diagonal)
            reconstruct = _Reconstruction(users, alpha, lam * mean_diagonal)
            return validation_metric(reconstruct, train, heldout, self.config.metric, self.name), alpha

        if progress:
            progress(0.0, "kernel")
        # Beyond the grid's edge no λ that would need float64 where the grid did not: memory was checked for it.
        lowest = len(users) / FLOAT32_CONDITION
        bounds = (lowest if self.config.dtype == "auto" and min(self.config.grid) > lowest else 0.0, math.inf)
        self.selection, alpha = select(
            "lam", self.config.metric, self.config.grid, try_value, bounds=bounds, progress=progress
        )
        ridges.clear()
        self._set_alpha(alpha)

    def _ridge(self, users: TrainUsers, dtype: torch.dtype, device: torch.device) -> KernelRidge:
        return KernelRidge(users.kernel(dtype, device), users.matrix, self.name)

    def _set_alpha(self, alpha: np.ndarray) -> None:
        if not np.isfinite(alpha).all():
            raise DasError(f"{self.name}: the solution is not finite; use a larger lam, or dtype=float64.")
        self._alpha = np.ascontiguousarray(alpha)

    def _score(self, histories: Interactions) -> np.ndarray:
        device = resolve_device(self.config.device)
        alpha = torch.from_numpy(self._alpha)
        kernel = self._users.kernel_with(histories.to_csr(), alpha.dtype, device)
        if device.type == "cpu":
            return kernel.numpy() @ self._alpha
        return (kernel @ alpha.to(device)).cpu().numpy()

    def _weights(self) -> dict[str, np.ndarray]:
        return {
            "alpha": self._alpha,
            "train_items": self._users.matrix.indices.astype(np.int32),
            "train_offsets": self._users.matrix.indptr.astype(np.int64),
        }

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        self._alpha = expect_shape(weights, "alpha", (None, n_items))
        items = expect_shape(weights, "train_items", (None,))
        offsets = expect_shape(weights, "train_offsets", (len(self._alpha) + 1,))
        if offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
            raise ValueError("weight 'train_offsets' does not divide 'train_items'")
        if len(items) and not 0 <= items.min() <= items.max() < n_items:
            raise ValueError("weight 'train_items' names items that do not exist")
        self._users = TrainUsers(Interactions(np.arange(len(self._alpha)), offsets, items, n_items))


class _Reconstruction:
    """Scores of the train users themselves, from α alone: P = K α = X - λ' α. Called batch after batch."""

    def __init__(self, users: TrainUsers, alpha: np.ndarray, shift: float) -> None:
        self._users, self._alpha, self._shift = users, alpha, shift
        self._position = 0

    def __call__(self, histories: Interactions) -> np.ndarray:
        rows = slice(self._position, self._position + len(histories))
        self._position = rows.stop
        scores = self._users.matrix[rows].toarray()
        scores -= self._shift * self._alpha[rows]
        return scores


def _dtype(config: InfiniteAEConfig, n_users: int, lam: float) -> torch.dtype:
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.float64
    # The trace bounds the largest eigenvalue: condition ≤ U · mean diagonal / λ' = U / λ.
    return torch.float64 if n_users / lam > FLOAT32_CONDITION else torch.float32
