"""MF: matrix factorisation, with a vector and a bias per user and item."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from distill_at_scale.errors import DasError
from distill_at_scale.models.item_table import ComposedItems, ItemTableConfig, code_bytes, table_bytes, table_numbers
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.models.training.user_table import UserTable, UserTableConfig, UserTableRecommender


class MFConfig(ItemTableConfig, UserTableConfig):
    """Settings of MF."""

    dim: int = Field(default=64, ge=1)
    """Width of the vectors."""
    negatives: int = Field(default=16, ge=1)
    """Number of items drawn for each row (implicit)."""
    batch_size: int = Field(default=2048, ge=1)
    """Rows per step, over all workers."""
    learning_rate: float = Field(default=0.005, gt=0)
    """Learning rate of Adam."""
    weight_decay: float = Field(default=1e-6, ge=0)
    """Weight decay of Adam: this times each parameter is added to its gradient."""
    shrinkage: float = Field(default=0.5, ge=0, lt=1)
    """λ on synthetic users, as a share of the smallest singular value kept."""


class _Factors(UserTable):
    """The last entry of each vector is the bias."""

    def __init__(self, n_users: int, n_items: int, config: MFConfig) -> None:
        dim = config.dim
        super().__init__(n_users, dim + 1, dim + 1)
        std = 0.1 / dim**0.5
        self.user = nn.Parameter(torch.randn(n_users, dim + 1) * 0.1 / dim**0.5)
        self.item: nn.Parameter | ComposedItems
        if config.items == "own":
            self.item = nn.Parameter(torch.randn(n_items, dim + 1) * 0.1 / dim**0.5)
        else:
            self.item = ComposedItems(n_items, dim + 1, config, std, own_columns=1)
        with torch.no_grad():
            self.user[:, -1] = 0.0
            if isinstance(self.item, nn.Parameter):
                self.item[:, -1] = 0.0

    def tables(self) -> tuple[torch.Tensor, torch.Tensor | ComposedItems]:
        return self.user, self.item

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return (items[..., :-1] @ users[:, :-1, None])[..., 0] + users[:, -1:] + items[..., -1]

    def all_items(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return users[:, :-1] @ items[:, :-1].T + users[:, -1:] + items[:, -1]


class MF(UserTableRecommender):
    """score(u, i) = μ + b_u + b_i + p_u · q_i.

    Source: Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems" (IEEE Computer 2009),
    equation 4; for implicit feedback with the ranking loss of Rendle et al., "BPR" (UAI 2009).

    Synthetic users have real-valued rows rather than pairs to rank. They are fitted by least squares over all items, in
    closed form and without biases (:meth:`_fit_rows`); real users then get their vector from their history.
    """

    name: ClassVar[str] = "mf"
    Config: ClassVar[type[MFConfig]] = MFConfig
    learns_from_rows: ClassVar[bool] = True
    config: MFConfig

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        """Minimises ‖S − P Qᵀ‖² + λ (‖P‖² + ‖Q‖²), whose optimum follows from S = U Σ Vᵀ: Q = V (Σ − λ)^½ (Srebro,
        Rennie, Jaakkola, "Maximum-margin matrix factorization", NIPS 2004; Mazumder, Hastie, Tibshirani, JMLR 2010).

        A real user's vector is the ridge regression of the history x on Q with the same λ,
        (QᵀQ + λ I)^-1 Qᵀ x = (Σ − λ)^½ Σ^-1 Vᵀ x, here of the mean of x's item vectors, which gives the same ranking.
        """
        if self.config.objective == "explicit":
            raise DasError("mf: synthetic users have no ratings to learn; omit objective=explicit.")
        if self.config.items != "own":
            raise DasError(f"mf: items={self.config.items} composes vectors of logs, not of synthetic users; omit it.")
        _, sigma, right = np.linalg.svd(rows.values, full_matrices=False)
        n = min(self.config.dim, int((sigma > 1e-6 * sigma[0]).sum()))
        lam = self.config.shrinkage * float(sigma[n - 1])
        kept = sigma[:n] - lam
        with torch.no_grad():
            # A single unused user: every history is folded in as a new user's.
            module: Any = _Factors(1, rows.n_items, self.config)
            module.item.zero_()
            module.item[:, :n] = torch.from_numpy(right[:n].T * np.sqrt(kept))
            module.fold_in[range(n), range(n)] = torch.from_numpy(1.0 / sigma[:n])
        self._module, self._n_users = module, 1

    def build(self, n_users: int, n_items: int) -> UserTable:
        return _Factors(n_users, n_items, self.config)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return n_users * (config.dim + 1) + table_numbers(n_items, config.dim + 1, config, own_columns=1)

    @classmethod
    def buffers_needed(cls, n_items: int, config: Any) -> int:
        return table_bytes(n_items, config)

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return super().stored_bytes(n_users, n_items, config) + code_bytes(n_items, config)

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return 4 * config.batch_size * (1 + config.negatives) * (config.dim + 1)
