"""LightGCN: user and item vectors, smoothed over the user–item graph."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.batches import Batch, Examples, SetExamples
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.user_table import UserTable, UserTableConfig, UserTableRecommender


class LightGCNConfig(UserTableConfig):
    """Settings of LightGCN."""

    dim: int = Field(default=64, ge=1)
    """Width of the vectors."""
    layers: int = Field(default=3, ge=1)
    """K, the number of propagation layers."""
    loss: Literal["full", "sampled"] = "full"
    """Implicit loss: full ranks each row above all items that its user lacks, in steps of users; sampled ranks it above
    a few drawn items, in steps of rows, and is the paper's BPR with negatives=1. Each step smooths the whole graph, so
    full, which learns more per step, needs fewer steps."""
    epochs: int = Field(default=200, ge=1)
    """Maximum number of passes over the train rows; with validation rows, the best one counts."""
    batch_size: int = Field(default=512, ge=1)
    """Batch size over all workers: users (full), or rows (sampled and explicit; use some thousands)."""
    negatives: int = Field(default=16, ge=1)
    """Number of items drawn for each row (sampled)."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Learning rate of Adam."""


class _Graph(UserTable):
    """Vectors of users, then of items. ``adjacency`` is set only during training; scoring needs only the smoothed
    vectors."""

    def __init__(self, n_users: int, n_items: int, dim: int, layers: int) -> None:
        super().__init__(n_users, dim, dim)
        self.n_users, self.layers = n_users, layers
        self.vectors = nn.Parameter(torch.randn(n_users + n_items, dim) * 0.1)
        self.smooth: torch.Tensor
        self.register_buffer("smooth", torch.zeros(n_users + n_items, dim))
        self.adjacency: torch.Tensor | None = None

    def train(self, mode: bool = True) -> _Graph:
        if not mode and self.training and self.adjacency is not None:
            with torch.no_grad():
                self.smooth.copy_(propagate(self.adjacency, self.vectors, self.layers))
        super().train(mode)
        return self

    def tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = self.smooth
        if self.training:
            assert self.adjacency is not None
            vectors = propagate(self.adjacency, self.vectors, self.layers)
        return vectors[: self.n_users], vectors[self.n_users :]

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return (items @ users[..., None])[..., 0]

    def all_items(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return users @ items.T


class LightGCN(UserTableRecommender):
    """score(u, i) = e_u · e_i, e = mean of E, ÃE, …, Ã^K E over the normalised bipartite graph Ã.

    Source: He, Deng, Wang, Li, Zhang, Wang, "LightGCN" (SIGIR 2020), equations 3, 4, 7 and 8; its loss, equation 15
    (BPR), is ``loss=sampled negatives=1``. The default loss, :func:`unseen_softmax`, is this project's choice.

    Practical limits: as for the other pairwise models. In addition, every worker holds the graph of all train rows, 16
    bytes per edge and direction, and smooths all vectors at every step: workers share only the rows. A step of
    ``loss=full`` holds batch_size × items scores a few times; use sampled for some hundred thousand items.
    """

    name: ClassVar[str] = "lightgcn"
    Config: ClassVar[type[LightGCNConfig]] = LightGCNConfig
    config: LightGCNConfig

    def build(self, n_users: int, n_items: int) -> UserTable:
        return _Graph(n_users, n_items, self.config.dim, self.config.layers)

    def prepare(self, module: Any, source: Source, communicator: Communicator, mean_rating: float) -> None:
        super().prepare(module, source, communicator, mean_rating)
        module.adjacency = normalised_adjacency(source.all_train(), source.n_users).to(module.vectors.device)

    def finish(self, module: Any, source: Source, communicator: Communicator) -> None:
        super().finish(module, source, communicator)
        module.adjacency = None

    def examples(self, rows: Interactions) -> Examples:
        return SetExamples(rows) if _over_all_items(self.config) else super().examples(rows)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        if not _over_all_items(self.config):
            return super().loss(module, batch, epoch)
        users, items = module.tables()
        users = self._thinned(F.embedding(batch["user"], users), module)
        scores = module.all_items(users, self._thinned(items, module))
        return unseen_softmax(scores, batch["owner"], batch["item"]), len(batch["item"])

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return (n_users + n_items) * config.dim

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        if _over_all_items(config):
            return 4 * config.batch_size * n_items
        return 4 * config.batch_size * (1 + config.negatives) * config.dim

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        return dataset.n_rows  # the graph's

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        smoothing = 4 * 2 * (config.layers + 1) * (n_users + n_items) * config.dim
        return super().memory_needed(n_users, n_items, n_rows, config) + smoothing + 64 * n_rows


def _over_all_items(config: LightGCNConfig) -> bool:
    return config.objective == "implicit" and config.loss == "full"


def unseen_softmax(scores: torch.Tensor, owner: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """−Σ over rows (u, i) of log [exp s_ui / (exp s_ui + Σ exp s_uj)], j the items that u has no row of.

    The full version of :func:`~distill_at_scale.models.training.user_table.sampled_softmax`: a user's own items do not
    compete with each other. A user with all items contributes 0.

    Args:
        scores: [b, n_items].
        owner, item: int64 [m], all (user, item) of the b users, each once; users by their row in ``scores``.
    """
    scores = scores.float()
    # The smallest float instead of -inf gives a user with all items a finite gradient.
    others = scores.index_put((owner, item), scores.new_tensor(torch.finfo(torch.float32).min)).logsumexp(dim=1)
    return F.softplus(others[owner] - scores[owner, item]).sum()


class _Symmetric(torch.autograd.Function):
    """Ãx for a symmetric sparse Ã, its own transpose, so that nothing is transposed or saved for the backward pass."""

    @staticmethod
    def forward(ctx: Any, adjacency: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.adjacency = adjacency
        return adjacency @ x

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.adjacency @ gradients[0]


def propagate(adjacency: torch.Tensor, vectors: torch.Tensor, layers: int) -> torch.Tensor:
    """Returns the mean of E, ÃE, …, Ã^K E, [n, dim], for sparse symmetric [n, n] and [n, dim]."""
    total = layer = vectors
    with torch.autocast(vectors.device.type, enabled=False):
        for _ in range(layers):
            layer = _Symmetric.apply(adjacency, layer)
            total = total + layer
    return total / (layers + 1)


def normalised_adjacency(train: Interactions, n_users: int) -> torch.Tensor:
    """Returns Ã = D^-1/2 A D^-1/2 as a sparse CSR tensor, float32 [n, n]; users first, then items."""
    matrix = train.to_csr().tocoo()
    users, items = train.users[matrix.coords[0]], matrix.coords[1].astype(np.int64) + n_users
    n = n_users + train.n_items
    ends = np.concatenate((users, items)), np.concatenate((items, users))
    adjacency = sp.csr_array((np.ones(len(ends[0]), np.float32), ends), shape=(n, n))
    scale = np.maximum(np.diff(adjacency.indptr), 1).astype(np.float32) ** -0.5
    values = adjacency.data * scale[adjacency.indices] * np.repeat(scale, np.diff(adjacency.indptr))
    offsets, indices = (torch.from_numpy(part.astype(np.int64)) for part in (adjacency.indptr, adjacency.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(offsets, indices, torch.from_numpy(values), (n, n), check_invariants=False)
