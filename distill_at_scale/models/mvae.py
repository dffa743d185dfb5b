"""MVAE: the variational autoencoder with a multinomial likelihood, from a user's items to all items."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.batches import Batch, Examples, SetExamples, set_batch
from distill_at_scale.models.training.torch_model import TorchConfig, TorchRecommender


class MVAEConfig(TorchConfig):
    """Settings of MVAE."""

    epochs: int = Field(default=200, ge=1)
    """Passes over the users at most; with validation rows, the best one counts."""
    patience: int = Field(default=20, ge=1)
    """Epochs without a better validation metric after which training stops."""
    batch_size: int = Field(default=200, ge=1)
    """Users of a step, over all workers."""
    hidden: int = Field(default=600, ge=1)
    """Width of the one hidden layer of encoder and decoder."""
    latent: int = Field(default=200, ge=1)
    """Width of z."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the input that a step leaves out."""
    beta: float = Field(default=0.2, ge=0)
    """Weight of the divergence at its height."""
    anneal_epochs: float = Field(default=50.0, ge=0)
    """Epochs in which it rises from 0 to there."""


class _Autoencoder(nn.Module):
    def __init__(self, n_items: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.n_items, self.latent = n_items, latent
        self.encoder = nn.Sequential(nn.Linear(n_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, n_items))
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=1e-3)

    def encode(self, x: torch.Tensor, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """μ and log σ² of q(z|x), each [b, latent]."""
        return self.encoder(F.dropout(F.normalize(x), dropout, self.training)).split(self.latent, dim=1)


class MVAE(TorchRecommender):
    """Mult-VAE: maximises E_q(z|x)[Σ_i x_i log softmax(f(z))_i] − β KL(q(z|x) ‖ N(0, 1)).

    Source: Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering" (WWW 2018),
    equations 2, 3, 7 and section 2.2.2 (annealing).

    Practical limits: any number of users; a step holds batch_size × items numbers a few times, so up to some
    hundred thousand items.
    """

    name: ClassVar[str] = "mvae"
    Config: ClassVar[type[MVAEConfig]] = MVAEConfig
    config: MVAEConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return _Autoencoder(n_items, self.config.hidden, self.config.latent)

    def examples(self, rows: Interactions) -> Examples:
        return SetExamples(rows)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        x = _dense(batch, module.n_items)
        mean, log_variance = module.encode(x, self.config.dropout)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rising = epoch / self.config.anneal_epochs if self.config.anneal_epochs else 1.0
        return negative_elbo(x, module.decoder(z), mean, log_variance, self.config.beta * min(1.0, rising)), len(x)

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        batch = {key: value.to(module.decoder[0].weight.device) for key, value in set_batch(histories).items()}
        mean, _ = module.encode(_dense(batch, module.n_items), 0.0)
        return module.decoder(mean)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return 2 * config.hidden * (n_items + 2 * config.latent)

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return 6 * config.batch_size * n_items


def negative_elbo(
    x: torch.Tensor, logits: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float
) -> torch.Tensor:
    """−Σ_users [Σ_i x_i log softmax(logits)_i − β KL(N(mean, exp(log_variance)) ‖ N(0, 1))]; x, logits [b, n_items]."""
    likelihood = (x * F.log_softmax(logits.float(), dim=1)).sum()
    mean, log_variance = mean.float(), log_variance.float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return beta * divergence - likelihood


def _dense(batch: Batch, n_items: int) -> torch.Tensor:
    """The users' items as zeros and ones [b, n_items]."""
    x = torch.zeros(int(batch["n"]), n_items, device=batch["item"].device)
    x[batch["owner"], batch["item"]] = 1.0
    return x
