"""Base class of models with a vector per user: learning from pairs, and vectors for new users.

Users with train rows at the fit are known by number. For all others the vector is folded in by a ridge regression,
solved once in closed form after training, from the mean of a history's item vectors to the vectors of the known users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.item_table import ComposedItems, block_of, look_up
from distill_at_scale.models.training.batches import Batch, Examples, PairExamples, RatingExamples
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.torch_model import ItemScores, TorchConfig, TorchRecommender

# Ridge of the fold-in, as a share of the mean diagonal.
_FOLD_RIDGE = 1e-3
_FOLD_USERS = 4096


class UserTableConfig(TorchConfig):
    """Settings of the models with a vector per user."""

    objective: Literal["implicit", "explicit"] = "implicit"
    """Training objective: implicit ranks rows above randomly drawn items; explicit minimises the squared error of the
    ratings (use metric=mse)."""
    negatives: int = Field(default=1, ge=1)
    """Number of items drawn for each row (implicit)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate of the vectors."""


class UserTable(nn.Module, ABC):
    """Vectors of users [n_users, f] and items [n_items, g], and scores from them.

    Attributes:
        mean: [1], μ, the mean rating; 0 if ratings are not used.
        known: bool [n_users], users with train rows.
        fold_in: [g + 2, f], map from a history's features to a user's vector.
    """

    def __init__(self, n_users: int, user_width: int, item_width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("known", torch.zeros(n_users, dtype=torch.bool))
        self.fold_in: torch.Tensor
        self.register_buffer("fold_in", torch.zeros(item_width + 2, user_width))

    @abstractmethod
    def tables(self) -> tuple[torch.Tensor, torch.Tensor | ComposedItems]:
        """Returns all users' and all items' vectors."""

    @abstractmethod
    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Returns scores [b, n] of vectors [b, f] with [b, n, g], less μ."""

    @abstractmethod
    def all_items(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Returns scores [b, n_items] of vectors [b, f] with [n_items, g], less μ."""


class UserTableRecommender(TorchRecommender):
    """Learns from pairs of user and item.

    Practical limits: each worker holds a vector per user and item, and a group exchanges their gradients at every step;
    so some ten million users and items together, not billions. User numbers must be those of the dataset it was fitted
    on, or of a sample of it; for others, :meth:`forget_users`.
    """

    by_blocks: ClassVar[bool] = True
    numbers_users: ClassVar[bool] = True
    config: UserTableConfig

    @property
    def predicts_ratings(self) -> bool:
        return bool(self.config.objective == "explicit")

    @abstractmethod
    def build(self, n_users: int, n_items: int) -> UserTable: ...

    def prepare(self, module: Any, source: Source, communicator: Communicator, mean_rating: float) -> None:
        known = torch.zeros(source.n_users, device=module.known.device)
        for piece in range(source.n_pieces):
            rows = source.train(piece)
            known[torch.from_numpy(rows.users[rows.counts > 0]).to(known.device)] = 1
        communicator.all_reduce(known)
        module.known.copy_(known > 0)
        for part in module.modules():
            if isinstance(part, ComposedItems):
                part.prepare(source, communicator, self.config.seed)
        if self.config.objective == "explicit":
            module.mean.fill_(mean_rating)

    def examples(self, rows: Interactions) -> Examples:
        if self.config.objective == "explicit":
            if rows.ratings is None:
                raise DasError(f"{self.name}: objective=explicit learns ratings, but there are none; set implicit.")
            return RatingExamples(rows)
        return PairExamples(rows, self.config.negatives)

    def loss(self, module: Any, batch: Batch, epoch: float) -> tuple[torch.Tensor, float]:
        users, items = module.tables()
        users = self._thinned(F.embedding(batch["user"], users), module)
        if self.config.objective == "explicit":
            items = self._thinned(look_up(items, batch["item"][:, None]), module)
            errors = module.mean + module.pairs(users, items)[:, 0] - batch["rating"]
            return errors.square().sum(), len(errors)
        chosen = torch.cat((batch["item"][:, None], batch["negative"]), dim=1)
        scores = module.pairs(users, self._thinned(look_up(items, chosen), module))
        return self.ranking_loss(scores, batch["seen"]), len(scores)

    def ranking_loss(self, scores: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Returns the loss: :func:`sampled_softmax`, unless the model's paper has another."""
        return sampled_softmax(scores, seen)

    def finish(self, module: Any, source: Source, communicator: Communicator) -> None:
        users, items = module.tables()
        width = len(module.fold_in)
        left = torch.zeros(width, width, dtype=torch.float64, device=users.device)
        right = torch.zeros(width, users.shape[1], dtype=torch.float64, device=users.device)
        for piece in range(source.n_pieces):
            rows = source.train(piece)
            known = np.flatnonzero(rows.counts > 0)
            for start in range(0, len(known), _FOLD_USERS):
                some = rows.take(known[start : start + _FOLD_USERS], timestamps=False)
                features = self._features(module, items, some).double()
                left += features.T @ features
                right += features.T @ users[torch.from_numpy(some.users).to(users.device)].double()
        communicator.all_reduce(left)
        communicator.all_reduce(right)
        left.diagonal().add_(_FOLD_RIDGE * left.diagonal().mean())
        module.fold_in.copy_(torch.linalg.solve(left, right))

    def forget_users(self) -> None:
        table: Any = self._module
        table.known.zero_()

    def item_scores(self, module: Any, histories: Interactions) -> torch.Tensor:
        return self.block_item_scores(module, histories)(0, histories.n_items)

    def block_item_scores(self, module: Any, histories: Interactions) -> ItemScores:
        users, items = module.tables()
        numbers = torch.from_numpy(histories.users).to(items.device)
        inside = numbers < len(users)
        numbers = torch.where(inside, numbers, 0)
        vectors = users[numbers]
        strangers = ~(inside & module.known[numbers])
        if bool(strangers.any()):
            folded = self._features(module, items, histories) @ module.fold_in
            vectors = torch.where(strangers[:, None], folded, vectors)
        return lambda first, last: module.mean + module.all_items(vectors, block_of(items, first, last))

    def _features(self, module: Any, items: torch.Tensor | ComposedItems, histories: Interactions) -> torch.Tensor:
        """Returns features [b, g + 2]: mean of the history's item vectors, weighted by the ratings' excess over the
        mean if ratings are used; mean of these weights; 1."""
        counts, numbers = histories.counts, histories.items
        if self.config.objective == "explicit" and histories.ratings is not None:
            weights = torch.from_numpy(histories.ratings).to(items.device) - module.mean
        else:
            distinct = histories.to_csr()
            counts, numbers = np.diff(distinct.indptr), distinct.indices
            weights = torch.ones(len(numbers), device=items.device)
        owner = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(items.device)
        vectors = look_up(items, torch.from_numpy(numbers.astype(np.int64)).to(items.device))
        rows = torch.cat((vectors, torch.ones_like(weights)[:, None]), 1) * weights[:, None]
        sums = vectors.new_zeros(len(counts), rows.shape[1]).index_add_(0, owner, rows)
        divisor = torch.from_numpy(np.maximum(counts, 1)).to(items.device)
        return torch.cat((sums / divisor[:, None], vectors.new_ones(len(counts), 1)), 1)

    def _thinned(self, vectors: torch.Tensor, module: nn.Module) -> torch.Tensor:
        return F.dropout(vectors, self.config.dropout, module.training)


def sampled_softmax(scores: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """−Σ log of the softmax of the first column among all; drawn items that the user has seen are excluded.

    With one drawn item this is BPR, −Σ log σ(s⁺ − s⁻): Rendle et al., "BPR: Bayesian personalized ranking from
    implicit feedback" (UAI 2009), section 4.

    Args:
        scores: [b, 1 + n], the row's item first.
        seen: bool [b, n].
    """
    scores = torch.cat((scores[:, :1], scores[:, 1:].masked_fill(seen, -torch.inf)), dim=1)
    return -F.log_softmax(scores.float(), dim=1)[:, 0].sum()
