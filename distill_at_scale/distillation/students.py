"""Students: sequential models as twice differentiable functions of their parameters, which accept soft tokens.

Equations and parameter names are those of :mod:`models.sasrec` and :mod:`models.gru4rec`: for one-hot tokens a student
computes the same states, and its parameters can be loaded into their modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.soft_tokens import SoftTokens, log_partition
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.models.item_table import OwnItems
from distill_at_scale.models.sasrec import visible
from distill_at_scale.models.training.batches import pad_left
from distill_at_scale.models.training.sequential import SequenceEncoder, SequentialRecommender

Parameters = dict[str, torch.Tensor]
Tokens = torch.Tensor | SoftTokens
"""Soft tokens [b, w, n_items]: dense, or as latent vectors and decoder."""


class Student(ABC):
    """A sequential model that takes its parameters as an argument.

    Attributes:
        n_items: Number of items.
        length: Maximum number of items of a history that it reads.
    """

    model: ClassVar[str]

    def __init__(self, n_items: int, settings: dict[str, Any]) -> None:
        """``settings`` are those of the model; settings of its training are ignored.

        Raises:
            SettingError: The model refuses the settings.
        """
        self._recommender = cast(SequentialRecommender, create_model(self.model, settings))
        config = self._recommender.config
        if config.items != "own" or config.sampled:
            raise SettingError(f"{self.model} learns latent sequences with items=own and sampled=0; leave them out.")
        self.n_items, self.length = n_items, self._recommender.config.length
        with torch.device("meta"):
            self._module = _Called(self._recommender.build(0, n_items), self.states_of)

    def draw(self, seed: int) -> Parameters:
        """Returns new parameters, initialised as the model does."""
        with torch.random.fork_rng([]):
            torch.manual_seed(hashing.stream("students/parameters", seed))
            module = self._recommender.build(0, self.n_items)
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def states(
        self, parameters: Parameters, tokens: Tokens, training: bool = False, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the states [b, w, dim] after each token.

        Args:
            parameters: Parameters in the form of :meth:`draw`.
            tokens: Soft tokens, [b, w, n_items], which sum to 1; or items int64 [b, w], padded on the left with
                n_items.
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
        return parameters["items.weight"][:-1]

    def soft_loss(self, parameters: Parameters, inputs: Tokens, targets: Tokens) -> torch.Tensor:
        """Returns the cross-entropy of the next token, mean over positions; ``inputs``, ``targets`` [b, w, n_items].

        Rows of targets Y sum to 1, so −Σ Y log softmax(h Eᵀ) = logsumexp(h Eᵀ) − ⟨h, Y E⟩. Under autocast these terms
        are summed in the precision of the parameters.
        """
        table = self.table(parameters)
        states = self.states(parameters, inputs, training=True).to(table.dtype)
        flat = states.flatten(0, 1)
        if self.n_items <= soft_tokens.CHUNKED_ABOVE and (inputs.requires_grad or targets.requires_grad):
            # A second derivative will be needed: one graph of all positions is faster than recomputed chunks.
            partition = (flat @ table.T).to(table.dtype).logsumexp(dim=1).sum()
        else:
            partition = log_partition(flat, table)
        return (partition - (states * (targets @ table).to(table.dtype)).sum()) / len(flat)

    def recommender(self, parameters: Parameters, item_space: str | None = None) -> SequentialRecommender:
        """Returns the model with these parameters, as if it had been fitted.

        Args:
            parameters: Parameters in the form of :meth:`draw`.
            item_space: Fingerprint of the item numbering.
        """
        model = type(self._recommender)(self._recommender.config)
        weights = {name: value.detach().cpu().numpy() for name, value in parameters.items()}
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


def create_student(model: str, n_items: int, settings: dict[str, Any] | None = None) -> Student:
    """Returns the student form of a model.

    Raises:
        SettingError: The model has no student form, or refuses the settings.
    """
    if model not in STUDENTS:
        raise SettingError(
            f"{model} cannot be a student: it has no twice differentiable form that reads soft tokens; "
            f"choose {' or '.join(STUDENTS)}."
        )
    return STUDENTS[model](n_items, settings or {})


class _Called(nn.Module):
    """An encoder that takes both kinds of tokens in one call, as torch.func.functional_call requires."""

    def __init__(self, encoder: nn.Module, states_of: Any) -> None:
        super().__init__()
        self.encoder, self._states_of = encoder, states_of

    def forward(self, tokens: Tokens, weights: torch.Tensor | None) -> torch.Tensor:
        weight = cast(OwnItems, cast(SequenceEncoder, self.encoder).items).weight
        if isinstance(tokens, SoftTokens) or tokens.is_floating_point():
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            return self._states_of(self.encoder, tokens @ weight[:-1], real, weights)
        return self._states_of(self.encoder, F.embedding(tokens, weight), tokens < len(weight) - 1, weights)
