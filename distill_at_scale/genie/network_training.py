"""Training of Data-Genie's networks, by torch, which takes seconds to load and which predictions do without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from distill_at_scale.data import hashing
from distill_at_scale.genie.network_config import NetworkConfig


class _Network(nn.Module):
    def __init__(self, columns: int, methods: int, config: NetworkConfig) -> None:
        super().__init__()
        self.methods = nn.Embedding(methods, config.embedding)
        self.hidden = nn.Linear(columns + config.embedding, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, 1)

    def forward(self, x: torch.Tensor, method: torch.Tensor) -> torch.Tensor:
        """Returns one score per cell, float32 [n]."""
        hidden = self.dropout(self.hidden(torch.cat([x, self.methods(method)], dim=1)))
        return self.out(functional.relu(hidden)).squeeze(1)


def pointwise(
    config: NetworkConfig, x: np.ndarray, method: np.ndarray, n_methods: int, target: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the weights by which tanh of the scores of cells comes near to targets, by squared error.

    Args:
        config: Settings.
        x: float32 [n, d], scaled columns.
        method: int64 [n], number of the method.
        n_methods: Number of methods.
        target: float32 [n].
    """
    wanted = torch.from_numpy(target)
    seed = hashing.stream("genie/pointwise", config.seed)
    return _trained(seed, config, x, method, n_methods, lambda score: functional.mse_loss(torch.tanh(score), wanted))


def pairwise(
    config: NetworkConfig, x: np.ndarray, method: np.ndarray, n_methods: int, better: np.ndarray, worse: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the weights by which the scores of pairs of cells are in order, by −log σ(s⁺ − s⁻).

    Args:
        config, x, method, n_methods: As in :func:`pointwise`.
        better, worse: int64 [m], positions of the cells of each pair.
    """
    first, second = torch.from_numpy(better), torch.from_numpy(worse)
    return _trained(
        hashing.stream("genie/pairwise", config.seed),
        config,
        x,
        method,
        n_methods,
        lambda score: functional.softplus(score[second] - score[first]).mean(),
    )


def _trained(
    seed: hashing.Stream,
    config: NetworkConfig,
    x: np.ndarray,
    method: np.ndarray,
    n_methods: int,
    loss: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, np.ndarray]:
    columns, methods = torch.from_numpy(x), torch.from_numpy(method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(x.shape[1], n_methods, config)
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=config.decay)
        for _ in range(config.steps):
            optimizer.zero_grad()
            loss(network(columns, methods)).backward()
            optimizer.step()
    return {key: tensor.numpy() for key, tensor in network.state_dict().items()}
