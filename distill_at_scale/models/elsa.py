"""ELSA: a linear item-item model of low rank, learned by gradients; the shallow autoencoder for large catalogues."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.batches import Batch, Examples, SetExamples, set_batch
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.torch_model import ItemScores, TorchConfig, TorchRecommender

# In multiplications of a step's matrix products: what every number of A costs beside them, and one of a sum over items.
_PASSES, _SUM = 100, 10


class ElsaConfig(TorchConfig):
    """Settings of ELSA."""

    dim: int = Field(default=256, ge=1)
    """Width of the item vectors."""
    epochs: int = Field(default=20, ge=1)
    """Maximum number of passes over the users; with validation rows, the best one counts."""
    patience: int = Field(default=3, ge=1)
    """Epochs without a better validation metric after which training stops."""
    batch_size: int = Field(default=512, ge=1)
    """Users per step, over all workers."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate of Adam."""
    weights: bool = False
    """Whether users count by the mean weight of their train rows, where a sample has weights. At a tenth of the rows of
    ml-100k it makes no difference beyond chance."""


class _Items(nn.Module):
    """A, one row per item, of which only the direction counts; of length 1 after the training.

    Attributes:
        learning: Whether the rows are being trained, so that their lengths differ.
        mean_weight: Mean weight of the users, over all workers.
    """

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.items = nn.Parameter(F.normalize(torch.randn(n_items, dim), dim=1))
        self.learning, self.mean_weight = False, 1.0


class Elsa(TorchRecommender):
    """Scores are x (A Aᵀ − I), with rows of A of length 1.

    Minimises ‖x̂/‖x̂‖ − x/‖x‖‖² over users, where x̂ = x (A Aᵀ − I). ‖x̂‖ and ⟨x̂, x⟩ follow from AᵀA and the user's own
    items (:func:`reconstruction_loss`), so that a step holds nothing of the size users × items. With the setting
    ``weights`` a user counts by the mean weight of the own rows: twice the weight is a second user with the same rows.
    That rows of one user have different weights, as in samples of rows, has no other effect: x/‖x‖ is of whole users.

    Source: Vančura, Alves, Kasalický, Kordík, "Scalable linear shallow autoencoder for collaborative filtering"
    (RecSys 2022), equations 4 and 7.

    Practical limits: any number of users, and as many items as A and its optimizer have memory for: 10 million items of
    128 numbers take about 52 GiB. A step takes time in proportion to items × dim²; use large batches for large
    catalogues. A group of workers exchanges A's gradient at every step.
    """

    name: ClassVar[str] = "elsa"
    joins_shards: ClassVar[bool] = True
    Config: ClassVar[type[ElsaConfig]] = ElsaConfig
    memory_hint: ClassVar[str] = "set a smaller dim, drop rare items (--min-item), or use a machine with more memory"
    by_blocks: ClassVar[bool] = True
    config: ElsaConfig

    def build(self, n_users: int, n_items: int) -> nn.Module:
        return _Items(n_items, self.config.dim)

    def prepare(self, module: Any, source: Source, communicator: Communicator, mean_rating: float) -> None:
        module.learning = True
        if self.uses_weights:
            module.mean_weight = _mean_weight(source, communicator, module.items.device)

    def examples(self, rows: Interactions) -> Examples:
        return SetExamples(rows)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        n = int(batch["n"])
        # In bfloat16 ‖x̂‖², a small difference of large numbers, would be wrong.
        with torch.autocast(batch["item"].device.type, enabled=False):
            if not self.uses_weights or "weight" not in batch:
                return reconstruction_loss(module.items, batch["owner"], batch["item"], n), n
            weights = batch["weight"] / module.mean_weight
            loss = reconstruction_loss(module.items, batch["owner"], batch["item"], n, weights)
            return loss, float(weights.sum())

    def finish(self, module: Any, source: Source, communicator: Communicator) -> None:
        F.normalize(module.items, dim=1, out=module.items)
        module.learning = False

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        return self.block_item_scores(module, histories)(0, histories.n_items)

    def block_item_scores(self, module: Any, histories: Interactions) -> ItemScores:
        items = F.normalize(module.items, dim=1) if module.learning else module.items
        batch = {key: value.to(items.device) for key, value in set_batch(histories).items()}
        offsets = torch.searchsorted(batch["owner"], torch.arange(len(histories), device=items.device))
        sums = F.embedding_bag(batch["item"], items, offsets, mode="sum")

        def block(first: int, last: int) -> torch.Tensor:
            scores = sums @ items[first:last].T
            inside = (batch["item"] >= first) & (batch["item"] < last)
            scores[batch["owner"][inside], batch["item"][inside] - first] -= 1.0
            return scores

        return block

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        # AᵀA, or products of a batch's users with all items; Adam and the scaling of all rows; sums over users' items.
        steps = -(-n_users // config.batch_size)
        of_step = n_items * (min(config.batch_size, config.dim) + _PASSES)
        return float(config.epochs * config.dim) * (steps * of_step + _SUM * n_rows)

    @classmethod
    def parameters_needed(cls, n_users: int, n_items: int, config: Any) -> int:
        return n_items * config.dim

    @classmethod
    def activations_needed(cls, n_items: int, config: Any) -> int:
        # The rows of length 1, their gradient and what it is computed from; sums of users.
        return 5 * n_items * config.dim + 4 * config.batch_size * config.dim


class _UnitRows(torch.autograd.Function):
    """Rows of length 1, as F.normalize gives them, with the gradient (g − u ⟨g, u⟩) / ‖a‖ in a third of the time."""

    @staticmethod
    def forward(ctx: Any, items: torch.Tensor) -> torch.Tensor:
        inverse = torch.linalg.vector_norm(items, dim=1, keepdim=True).clamp_min(1e-12).reciprocal()
        unit = items * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (g,), (unit, inverse) = gradients, ctx.saved_tensors
        along = (g * unit).sum(dim=1, keepdim=True)
        return torch.addcmul(g, unit, along, value=-1.0).mul_(inverse)


def _mean_weight(source: Source, communicator: Communicator, device: torch.device) -> float:
    """Returns the mean weight of all workers' users with rows; 1 if the rows have no weights."""
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for piece in range(source.n_pieces):
        rows = source.train(piece)
        totals += totals.new_tensor([rows.user_weights().sum(), int((rows.counts > 0).sum())])
    communicator.all_reduce(totals)
    return float(totals[0] / totals[1])


def reconstruction_loss(
    items: torch.Tensor,
    owner: torch.Tensor,
    item: torch.Tensor,
    n_users: int,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Σ_users ‖x̂/‖x̂‖ − x/‖x‖‖² = Σ_users 2 − 2 ⟨x̂, x⟩ / (‖x̂‖ ‖x‖), x̂ = x (A Aᵀ − I), without x̂ itself.

    With h = x A and n = ‖x‖², the number of items, ⟨x̂, x⟩ = ‖h‖² − n and ‖x̂‖² = h AᵀA hᵀ − 2 ‖h‖² + n, whose first term
    is ‖h Aᵀ‖² for fewer users than dimensions.

    Args:
        items: [n_items, dim], A before its rows are scaled to length 1.
        owner, item: int64 [m], distinct pairs of user (0 … n_users − 1, ascending) and item.
        n_users: Number of users, each with an item.
        weights: [n_users], by which the users' terms are multiplied; None: 1.
    """
    unit: torch.Tensor = _UnitRows.apply(items)  # type: ignore[no-untyped-call]
    counts = torch.bincount(owner, minlength=n_users)
    n = counts.to(unit.dtype)
    sums = F.embedding_bag(item, unit, counts.cumsum(0) - counts, mode="sum")
    length = sums.square().sum(dim=1)
    if n_users < unit.shape[1]:
        # ‖h Aᵀ‖² itself: n_users × items × dim products instead of items × dim², and less memory than A.
        squared = (sums @ unit.T).square().sum(dim=1) - 2 * length + n
    else:
        squared = ((sums @ (unit.T @ unit)) * sums).sum(dim=1) - 2 * length + n
    # x̂ is 0 where all items have the same vector as the user's only one.
    errors = 2 - 2 * (length - n) / (squared.clamp(min=1e-6) * n).sqrt()
    return (errors if weights is None else errors * weights).sum()
