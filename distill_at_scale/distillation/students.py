"""Students: sequential models as twice differentiable functions of their parameters, which accept soft tokens.

Equations and parameter names are those of :mod:`models.sasrec` and :mod:`models.gru4rec`: for one-hot tokens a student
computes the same states, and its parameters can be loaded into their modules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.books import Books
from distill_at_scale.distillation.soft_tokens import SoftTokens, log_partition
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.models.item_table import ComposedItems, OwnItems
from distill_at_scale.models.sasrec import visible
from distill_at_scale.models.training.batches import pad_left
from distill_at_scale.models.training.sequential import SequenceEncoder, SequentialRecommender

Parameters = dict[str, torch.Tensor]
Tokens = torch.Tensor | SoftTokens
"""Soft tokens [b, w, n_items], dense or as latent vectors and decoder; with codes [b, w, books × book_size]."""
OWN, SHARED = "items.weight", "items.shared"
"""Names of the parameters of item vectors: one per item, or shared ones."""
_NUMPY = {torch.float32: np.float32, torch.int64: np.int64}


class Student(ABC):
    """A sequential model that takes its parameters as an argument.

    Attributes:
        n_items: Number of items.
        length: Maximum number of items of a history that it reads.
    """

    model: ClassVar[str]

    def __init__(self, n_items: int, settings: dict[str, Any], codes: torch.Tensor | None = None) -> None:
        """``settings`` are those of the model; settings of its training are ignored.

        Args:
            n_items: Number of items.
            settings: Settings of the model.
            codes: With ``items=codes``, int [n_items, books], of which shared vectors an item's is the sum. None: those
                of a student that is only asked for its size.

        Raises:
            SettingError: The model refuses the settings.
        """
        self._recommender = cast(SequentialRecommender, create_model(self.model, settings))
        config = self._recommender.config
        if config.items == "own" and config.sampled:
            raise SettingError(f"{self.model} learns latent sequences of items=own with sampled=0; leave it out.")
        if config.items not in ("own", "codes") or (config.items == "codes" and config.own_items):
            raise SettingError(
                f"{self.model} learns latent sequences with items=own, or with items=codes and own_items=0; set these."
            )
        self.n_items, self.length, self.sampled = n_items, config.length, config.sampled
        self.books = None
        if config.items == "codes":
            if codes is None:
                codes = torch.zeros(n_items, config.books, dtype=torch.int64)
            self.books = Books(codes, config.book_size)
        with torch.device("meta"):
            self._module = _Called(self._recommender.build(0, n_items), self.states_of, self.books)

    def draw(self, seed: int) -> Parameters:
        """Returns new parameters, initialised as the model does."""
        with torch.random.fork_rng([]):
            torch.manual_seed(hashing.stream("students/parameters", seed))
            module = self._recommender.build(0, self.n_items)
        return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.numel()}

    def states(
        self, parameters: Parameters, tokens: Tokens, training: bool = False, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the states [b, w, dim] after each token.

        Args:
            parameters: Parameters in the form of :meth:`draw`.
            tokens: Soft tokens, [b, w, n_items], which sum to 1, with codes [b, w, books × book_size], a distribution
                for each book; or items int64 [b, w], padded on the left with n_items.
            training: Whether dropout is active.
            weights: [b, w + 1], weights near 1 of the rows that the tokens are of, and of the row after the last one. A
                state counts earlier rows by their weights, and its own row fully: to first order it changes as if rows
                were left out with probability 1 − weight.
        """
        self._module.train(training)
        named = {f"encoder.{name}": value for name, value in parameters.items()}
        states: torch.Tensor = torch.func.functional_call(self._module, named, (tokens, weights))
        return states

    def table(self, parameters: Parameters) -> torch.Tensor:
        """Returns E [n_items, dim], the items' vectors; scores are states Eᵀ."""
        if self.books is not None:
            return self.books.vectors(parameters[SHARED])
        return parameters[OWN][:-1]

    def vectors(self, parameters: Parameters, items: torch.Tensor) -> torch.Tensor:
        """Returns the vectors [..., dim] of items int64 [...]."""
        if self.books is not None:
            return self.books.vectors(parameters[SHARED], items)
        return F.embedding(items, parameters[OWN])

    def target_vectors(self, parameters: Parameters, targets: Tokens) -> torch.Tensor:
        """Returns Y E, the expected item vectors [b, w, dim] of ``targets`` Y [b, w, n_items]; with codes, of their
        distributions over each book."""
        return targets @ (self.table(parameters) if self.books is None else parameters[SHARED])

    def soft_loss(self, parameters: Parameters, inputs: Tokens, targets: Tokens) -> torch.Tensor:
        """Returns the cross-entropy of the next token, mean over positions; ``inputs``, ``targets`` [b, w, n_items].

        Rows of targets Y sum to 1, so −Σ Y log softmax(h Eᵀ) = logsumexp(h Eᵀ) − ⟨h, Y E⟩. Under autocast these terms
        are summed in the precision of the parameters. With codes, Y E needs only the distributions of Y over each book.
        """
        if self.books is not None:
            return self._loss_of_books(self.books, parameters, inputs, cast(torch.Tensor, targets))
        table = self.table(parameters)
        states = self.states(parameters, inputs, training=True).to(table.dtype)
        flat = states.flatten(0, 1)
        if self.n_items <= soft_tokens.CHUNKED_ABOVE and (inputs.requires_grad or targets.requires_grad):
            # A second derivative will be needed: one graph of all positions is faster than recomputed chunks.
            partition = (flat @ table.T).to(table.dtype).logsumexp(dim=1).sum()
        else:
            partition = log_partition(flat, table)
        return (partition - (states * (targets @ table).to(table.dtype)).sum()) / len(flat)

    def _loss_of_books(
        self, books: Books, parameters: Parameters, inputs: Tokens, targets: torch.Tensor
    ) -> torch.Tensor:
        """The loss with composed item vectors; with ``sampled``, of the partition sum over a draw of items."""
        shared = parameters[SHARED]
        states = self.states(parameters, inputs, training=True).to(shared.dtype).flatten(0, 1)
        right = (states * self.target_vectors(parameters, targets).flatten(0, 1).to(shared.dtype)).sum(dim=1)
        if self.sampled:
            drawn = torch.randint(self.n_items, (self.sampled,), device=shared.device)
            scores = (states @ books.vectors(shared, drawn).T).to(shared.dtype)
            # As in sampled_cross_entropy, where the target's vector is an item's: without the target among them, its
            # score could grow for ever.
            scores = scores + math.log((self.n_items - 1) / self.sampled)
            scores = torch.cat((right[:, None], scores), dim=1)
        else:
            scores = (states @ books.vectors(shared).T).to(shared.dtype)
        return (scores.logsumexp(dim=1) - right).mean()

    def recommender(self, parameters: Parameters, item_space: str | None = None) -> SequentialRecommender:
        """Returns the model with these parameters, as if it had been fitted.

        Args:
            parameters: Parameters in the form of :meth:`draw`.
            item_space: Fingerprint of the item numbering.
        """
        model = type(self._recommender)(self._recommender.config)
        weights = {name: value.detach().cpu().numpy() for name, value in parameters.items()}
        if self.books is not None:
            with torch.device("meta"):
                expected = model.build(0, self.n_items).state_dict()
            weights["items.codes"] = self.books.codes.to("cpu", expected["items.codes"].dtype).numpy()
            # Parts of no size have no parameters.
            missing = expected.keys() - weights.keys()
            weights |= {name: np.zeros(tuple(expected[name].shape), _NUMPY[expected[name].dtype]) for name in missing}
        model._set_weights({**weights, "n_users": np.zeros(1, np.int64)}, self.n_items)
        model.n_items, model.item_space = self.n_items, item_space
        return model

    def item_scores(self, parameters: Parameters, histories: Interactions) -> np.ndarray:
        """Returns the scores of all items after the histories, float32 [b, n_items]."""
        with torch.no_grad():
            table = self.table(parameters)
            items = torch.from_numpy(pad_left(histories, self.length)).to(table.device)
            return (self.states(parameters, items)[:, -1] @ table.T).float().cpu().numpy()

    @abstractmethod
    def states_of(
        self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes states from the items' vectors [b, w, dim]; ``real``, bool [b, w], is False for padding.

        ``weights`` as in :meth:`states`.
        """


class SASRecStudent(Student):
    """SASRec, with attention in plain operations and without key bias."""

    model: ClassVar[str] = "sasrec"

    def states_of(
        self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        width = real.shape[1]
        if width > self.length:
            raise DasError(f"A sequence of {width} tokens is longer than the student's length={self.length}.")
        places, bias = encoder.places[-width:], None
        if weights is not None:
            # Positions count from the newest row: without a later row, a row is one place newer. The newest stays.
            later = (1 - weights[:, 1:]).flip(1).cumsum(1).flip(1)
            newer = torch.cat((places[1:], places[-1:])) - places
            places = places + later[..., None] * newer
            # Attention to a row is in proportion to its weight.
            itself = torch.eye(width, dtype=torch.bool, device=real.device)
            bias = weights[:, None, :-1].log().masked_fill(itself, 0.0)
        x = vectors * vectors.shape[2] ** 0.5 + places
        x = F.dropout(x, encoder.dropout, encoder.training)
        allowed = visible(real)
        for block in encoder.blocks:
            x = block(x * real[..., None], allowed, bias)
        return encoder.last(x)


class GRU4RecStudent(Student):
    """GRU4Rec, with the recurrence in plain operations, since cuDNN's fused GRU has no second derivative."""

    model: ClassVar[str] = "gru4rec"

    def states_of(
        self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        x = F.dropout(vectors * vectors.shape[2] ** 0.5, encoder.dropout, encoder.training)
        gru = encoder.recurrence.gru
        inputs = F.linear(x, gru.weight_ih_l0, gru.bias_ih_l0)
        state, states = x.new_zeros(len(x), gru.hidden_size), []
        for place in range(x.shape[1]):
            from_input = inputs[:, place].chunk(3, dim=1)
            from_state = F.linear(state, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3, dim=1)
            reset, update = ((a + b).sigmoid() for a, b in zip(from_input[:2], from_state[:2]))
            new = (from_input[2] + reset * from_state[2]).tanh()
            # The state stays 0 in the padding before the first item.
            after = (new + update * (state - new)) * real[:, place, None]
            states.append(after)
            state = after if weights is None else state + weights[:, place, None] * (after - state)
        return encoder.output(F.dropout(torch.stack(states, dim=1), encoder.dropout, encoder.training))


STUDENTS: dict[str, type[Student]] = {student.model: student for student in (SASRecStudent, GRU4RecStudent)}
"""Students by the model's name."""


def create_student(
    model: str, n_items: int, settings: dict[str, Any] | None = None, codes: torch.Tensor | None = None
) -> Student:
    """Returns the student form of a model; for arguments see :class:`Student`.

    Raises:
        SettingError: The model has no student form, or refuses the settings.
    """
    if model not in STUDENTS:
        raise SettingError(
            f"{model} cannot be a student: it has no twice differentiable form that reads soft tokens; "
            f"choose {' or '.join(STUDENTS)}."
        )
    return STUDENTS[model](n_items, settings or {}, codes)


class _Called(nn.Module):
    """An encoder that takes all kinds of tokens in one call, as torch.func.functional_call requires."""

    def __init__(self, encoder: nn.Module, states_of: Any, books: Books | None) -> None:
        super().__init__()
        self.encoder, self._states_of, self._books = encoder, states_of, books

    def forward(self, tokens: Tokens, weights: torch.Tensor | None) -> torch.Tensor:
        items = cast(SequenceEncoder, self.encoder).items
        if isinstance(tokens, SoftTokens) or tokens.is_floating_point():
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            shared = cast(ComposedItems, items).shared if self._books else cast(OwnItems, items).weight[:-1]
            return self._states_of(self.encoder, tokens @ shared, real, weights)
        if self._books is not None:
            real = tokens < self._books.n_items
            vectors = self._books.vectors(cast(ComposedItems, items).shared, torch.where(real, tokens, 0))
            return self._states_of(self.encoder, vectors * real[..., None], real, weights)
        weight = cast(OwnItems, items).weight
        return self._states_of(self.encoder, F.embedding(tokens, weight), tokens < len(weight) - 1, weights)
