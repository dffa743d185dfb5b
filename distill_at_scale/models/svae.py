"""SVAE: a variational autoencoder at every step of a user's sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.gru4rec import Recurrence
from distill_at_scale.models.training.batches import Batch, Examples, SequenceExamples, pad_left
from distill_at_scale.models.training.torch_model import ItemScores, TorchConfig, TorchRecommender


class SVAEConfig(TorchConfig):
    """Settings of SVAE."""

    batch_size: int = Field(default=64, ge=1)
    """Users per step, over all workers."""
    dim: int = Field(default=128, ge=1)
    """Width of the item vectors."""
    hidden: int = Field(default=200, ge=1)
    """Width of the recurrent state, and of the layers around z."""
    latent: int = Field(default=64, ge=1)
    """Width of z."""
    length: int = Field(default=100, ge=1)
    """Number of most recent items of a history that are read."""
    ahead: int = Field(default=4, ge=1)
    """k, the number of following items that every step predicts."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout rate of the item vectors."""
    beta: float = Field(default=0.2, ge=0)
    """Final weight of the KL divergence."""
    anneal_epochs: float = Field(default=20.0, ge=0)
    """Epochs in which the weight of the divergence rises from 0 to ``beta``."""


class _SequentialAutoencoder(nn.Module):
    def __init__(self, n_items: int, config: SVAEConfig) -> None:
        super().__init__()
        self.n_items, self.latent, self.dropout = n_items, config.latent, config.dropout
        self.items = nn.Embedding(n_items + 1, config.dim, padding_idx=n_items)
        self.recurrence = Recurrence(config.dim, config.hidden)
        self.encoder = nn.Sequential(
            nn.Linear(config.hidden, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 2 * config.latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent, config.hidden), nn.Tanh(), nn.Linear(config.hidden, n_items)
        )

    def encode(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns μ and log σ² [b, w, latent] after each of the items int64 [b, w]."""
        x = F.dropout(self.items(items), self.dropout, self.training)
        return self.encoder(self.recurrence(x, items < self.n_items)).split(self.latent, dim=2)


class SVAE(TorchRecommender):
    """At every step t: maximises the mean of log softmax(f(z_t))_i over the next k items, less β KL(q(z_t) ‖ N(0, 1)).

    Source: Sachdeva, Manco, Ritacco, Pudi, "Sequential variational autoencoders for collaborative filtering"
    (WSDM 2019), section 3.

    Practical limits: any number of users; a step holds the scores of all items for every position of its sequences, so
    up to some hundred thousand items (smaller batch_size for more).
    """

    name: ClassVar[str] = "svae"
    joins_shards: ClassVar[bool] = True
    Config: ClassVar[type[SVAEConfig]] = SVAEConfig
    least_rows: ClassVar[str] = "a sequence needs two"
    by_blocks: ClassVar[bool] = True
    memory_hint: ClassVar[str] = (
        "set a smaller batch_size, choose a model for large catalogues (elsa, als; sasrec with --set items=codes "
        "sampled=1000), drop rare items (--min-item), or use a machine with more memory"
    )
    config: SVAEConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return _SequentialAutoencoder(n_items, self.config)

    def examples(self, rows: Interactions) -> Examples:
        return SequenceExamples(rows, self.config.length)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        items = batch["items"]
        real = items[:, :-1] < module.n_items
        mean, log_variance = (part[real] for part in module.encode(items[:, :-1]))
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rising = epoch / self.config.anneal_epochs if self.config.anneal_epochs else 1.0
        targets = following(items, self.config.ahead, module.n_items)[real]
        beta = self.config.beta * min(1.0, rising)
        return negative_elbo(targets, module.decoder(z), mean, log_variance, beta), len(z)

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        return self.block_item_scores(module, histories)(0, histories.n_items)

    def block_item_scores(self, module: Any, histories: Interactions) -> ItemScores:
        items = torch.from_numpy(pad_left(histories, self.config.length)).to(module.items.weight.device)
        mean, _ = module.encode(items)
        *inner, last_layer = module.decoder
        states = mean[:, -1]
        for layer in inner:
            states = layer(states)
        return lambda first, last: F.linear(states, last_layer.weight[first:last], last_layer.bias[first:last])

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        within = config.hidden * (4 * config.hidden + 3 * config.dim + 3 * config.latent)
        return (config.dim + config.hidden) * (n_items + 1) + within

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return config.batch_size * config.length * (3 * n_items + 10 * config.hidden)


def following(items: torch.Tensor, ahead: int, n_items: int) -> torch.Tensor:
    """Returns the items after each position of int64 [b, w], int64 [b, w − 1, ahead]; n_items beyond the end."""
    return F.pad(items, (0, ahead - 1), value=n_items)[:, 1:].unfold(1, ahead, 1)


def negative_elbo(
    targets: torch.Tensor, logits: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float
) -> torch.Tensor:
    """−Σ_t [mean over the targets of log softmax(logits_t) − β KL(N(mean_t, exp(log_variance_t)) ‖ N(0, 1))].

    Args:
        targets: int64 [m, k], n_items for missing targets; the first is never missing.
        logits: [m, n_items].
        mean, log_variance: [m, latent].
        beta: β, weight of the divergence.
    """
    present = targets < logits.shape[1]
    logs = F.log_softmax(logits.float(), dim=1).gather(1, targets.masked_fill(~present, 0))
    likelihood = (logs.masked_fill(~present, 0.0).sum(dim=1) / present.sum(dim=1)).sum()
    mean, log_variance = mean.float(), log_variance.float()
    return beta * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() - likelihood
