"""MVAE: the variational autoencoder with a multinomial likelihood, from a user's items to all items."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.device import resolve_device
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.models.training.batches import Batch, Examples, SetExamples, set_batch
from distill_at_scale.models.training.torch_model import TorchConfig, TorchRecommender


class MVAEConfig(TorchConfig):
    """Settings of MVAE."""

    likelihood: Literal["hidden", "all"] = "hidden"
    """Items of the likelihood: hidden, those that dropout hides from the encoder, averaged over a user's; or all of a
    user's, summed (the paper's)."""
    epochs: int = Field(default=200, ge=1)
    """Maximum number of passes over the users; with validation rows, the best one counts."""
    patience: int = Field(default=20, ge=1)
    """Epochs without a better validation metric after which training stops."""
    batch_size: int = Field(default=200, ge=1)
    """Users per step, over all workers."""
    hidden: int = Field(default=600, ge=1)
    """Width of the encoder's hidden layer."""
    decoder_hidden: int = Field(default=0, ge=0)
    """Width of the decoder's hidden layer; 0: no hidden layer."""
    latent: int = Field(default=200, ge=1)
    """Width of z."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout rate of the input."""
    beta: float = Field(default=0.01, ge=0)
    """Final weight of the KL divergence, relative to the likelihood as counted by ``likelihood``."""
    anneal_epochs: float = Field(default=10.0, ge=0)
    """Epochs in which the weight of the divergence rises from 0 to ``beta``."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Learning rate of Adam."""
    row_steps: int = Field(default=160, ge=1)
    """Training steps on synthetic users, instead of epochs; the weight of the divergence rises over the first half."""
    row_learning_rate: float = Field(default=3e-3, gt=0)
    """Learning rate of Adam on synthetic users."""
    row_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout rate on synthetic users, whose likelihood is over all items regardless of ``likelihood``."""
    row_beta: float = Field(default=0.2, ge=0)
    """Value of beta on synthetic users."""

    @model_validator(mode="after")
    def _something_is_hidden(self) -> Self:
        if self.likelihood == "hidden" and not self.dropout:
            raise ValueError("dropout=0 hides nothing to learn from; set a larger one, or likelihood=all")
        return self


class _Autoencoder(nn.Module):
    def __init__(self, n_items: int, hidden: int, latent: int, decoder_hidden: int) -> None:
        super().__init__()
        self.n_items, self.latent = n_items, latent
        self.encoder = nn.Sequential(nn.Linear(n_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        inner = [nn.Linear(latent, decoder_hidden), nn.Tanh()] if decoder_hidden else []
        self.decoder = nn.Sequential(*inner, nn.Linear(decoder_hidden or latent, n_items))
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=1e-3)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """μ and log σ² of q(z|x), each [b, latent]."""
        return self.encoder(x).split(self.latent, dim=1)


class MVAE(TorchRecommender):
    """A variational autoencoder with a multinomial likelihood, Mult-VAE.

    ``likelihood=hidden``, this project's default: dropout splits a user's items x into a part g for the encoder and the
    rest h; maximises E_q(z|g)[1/|h| Σ_{i in h} log softmax_{not in g}(f(z))_i] − β KL(q(z|g) ‖ N(0, 1)). This matches
    the evaluation, which asks for items that the input lacks. ``likelihood=all``:
    E_q(z|x)[Σ_{i in x} log softmax(f(z))_i] − β KL(q(z|x) ‖ N(0, 1)).

    Source: Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering" (WWW 2018),
    equations 2, 3, 7 and section 2.2.2 (annealing). The paper's model: likelihood=all decoder_hidden=600 dropout=0.5
    beta=0.2 learning_rate=0.001 and an annealing that suits the log.

    Practical limits: any number of users; a step holds batch_size × items numbers a few times, so up to some
    hundred thousand items.
    """

    name: ClassVar[str] = "mvae"
    joins_shards: ClassVar[bool] = True
    learns_from_rows: ClassVar[bool] = True
    Config: ClassVar[type[MVAEConfig]] = MVAEConfig
    memory_hint: ClassVar[str] = (
        "set a smaller hidden, latent or batch_size, choose a model for large catalogues (elsa, als), drop rare items "
        "(--min-item), or use a machine with more memory"
    )
    config: MVAEConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return _Autoencoder(n_items, self.config.hidden, self.config.latent, self.config.decoder_hidden)

    def examples(self, rows: Interactions) -> Examples:
        return SetExamples(rows)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        x = _dense(batch, module.n_items)
        rising = epoch / self.config.anneal_epochs if self.config.anneal_epochs else 1.0
        beta = self.config.beta * min(1.0, rising)
        if self.config.likelihood == "all":
            return _bound_of_all(module, x, self.config.dropout, beta), len(x)
        given = x * (torch.rand_like(x) >= self.config.dropout)
        z, mean, log_variance = _draw(module, F.normalize(given))
        return hidden_negative_elbo(x, given, module.decoder(z), mean, log_variance, beta), len(x)

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        """Fits synthetic users. The likelihood weighs each item by the positive part of a row, scaled to a real user's
        mean count; negative entries count as 0. Without validation rows for early stopping, the number of steps is
        fixed.

        The likelihood is over all items: a row is a mixture of users, without seen and hidden items.
        """
        config, device = self.config, resolve_device(self.config.device)
        weights = rows.values.clip(0.0)
        weights *= rows.rows_a_user / max(float(weights.sum(1).mean()), 1e-12)
        targets = torch.from_numpy(weights).to(device)
        with torch.random.fork_rng():
            torch.manual_seed(hashing.stream("mvae/distilled rows", config.seed))
            module = self.build(rows.n_users, rows.n_items).to(device).train()
            optimizer = torch.optim.Adam(
                module.parameters(), config.row_learning_rate, config.betas, config.eps, config.weight_decay
            )
            for step in range(config.row_steps):
                x = targets[torch.randperm(len(targets))[: config.batch_size].to(device)]
                beta = config.row_beta * min(1.0, 2 * step / config.row_steps)
                loss = _bound_of_all(module, x, config.row_dropout, beta) / len(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if progress:
                    progress(min(step / config.row_steps, 0.99), f"step {step + 1}")
        self._module, self._n_users = module, rows.n_users

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        batch = {key: value.to(module.decoder[-1].weight.device) for key, value in set_batch(histories).items()}
        mean, _ = module.encode(F.normalize(_dense(batch, module.n_items)))
        return module.decoder(mean)

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        # Users are rows of all items, which pass through every parameter.
        return float(config.epochs * n_users) * cls.parameters_needed(n_users, n_items, config)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        encoder = config.hidden * (n_items + 2 * config.latent)
        return encoder + (config.decoder_hidden or config.latent) * n_items + config.decoder_hidden * config.latent

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        return 6 * config.batch_size * n_items


def negative_elbo(
    x: torch.Tensor, logits: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float
) -> torch.Tensor:
    """−Σ_users [Σ_i x_i log softmax(logits)_i − β KL(N(mean, exp(log_variance)) ‖ N(0, 1))]; x, logits [b, n_items]."""
    likelihood = (x * F.log_softmax(logits.float(), dim=1)).sum()
    return beta * _divergence(mean, log_variance) - likelihood


def hidden_negative_elbo(
    x: torch.Tensor,
    given: torch.Tensor,
    logits: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """−Σ_users [1/|h| Σ_{i in h} log softmax(logits outside given)_i − β KL(N(mean, exp(log_variance)) ‖ N(0, 1))],
    h the items of x that are not in ``given``; a user without any contributes only the divergence.

    Args:
        x, given: zeros and ones [b, n_items], given ≤ x.
        logits: [b, n_items].
        mean, log_variance: [b, latent].
        beta: β, weight of the divergence.
    """
    # The smallest float instead of -inf, since -inf times 0 is NaN.
    logits = logits.float().masked_fill(given > 0, torch.finfo(torch.float32).min)
    hidden = x - given
    likelihood = (hidden * F.log_softmax(logits, dim=1)).sum(dim=1) / hidden.sum(dim=1).clamp(min=1)
    return beta * _divergence(mean, log_variance) - likelihood.sum()


def _divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Σ KL(N(mean, exp(log_variance)) ‖ N(0, 1))."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()


def _bound_of_all(module: Any, x: torch.Tensor, dropout: float, beta: float) -> torch.Tensor:
    """Negative bound of rows x [b, n_items], ones or weights, of which dropout hides a part from the encoder."""
    z, mean, log_variance = _draw(module, F.dropout(F.normalize(x), dropout))
    return negative_elbo(x, module.decoder(z), mean, log_variance, beta)


def _draw(module: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws z from q(z|x); returns it with its μ and log σ²."""
    mean, log_variance = module.encode(x)
    return mean + torch.randn_like(mean) * (log_variance / 2).exp(), mean, log_variance


def _dense(batch: Batch, n_items: int) -> torch.Tensor:
    """Returns the users' items as zeros and ones [b, n_items]."""
    x = torch.zeros(len(batch["user"]), n_items, device=batch["item"].device)
    x[batch["owner"], batch["item"]] = 1.0
    return x
