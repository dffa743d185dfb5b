"""Students: models of sequences as functions of their parameters, for soft tokens, and twice differentiable.

The maths and the parameters' names are those of :mod:`models.sasrec` and :mod:`models.gru4rec`: with one-hot tokens a
student gives their states, and what it learned can be loaded into their modules.
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
from distill_at_scale.models.sasrec import visible
from distill_at_scale.models.training.batches import pad_left
from distill_at_scale.models.training.sequential import SequenceEncoder, SequentialRecommender

Parameters = dict[str, torch.Tensor]
Tokens = torch.Tensor | SoftTokens
"""Soft tokens [b, w, n_items]: dense, or held as what they are decoded from."""


class Student(ABC):
    """A model of sequences without parameters of its own.

    Attributes:
        n_items: size of the item space.
        length: items of a history that it reads.
    """

    model: ClassVar[str]

    def __init__(self, n_items: int, settings: dict[str, Any]) -> None:
        """``settings`` are the model's; its training's are not used.

        Raises:
            DasError: for settings that the model refuses.
        """
        self._recommender = cast(SequentialRecommender, create_model(self.model, settings))
        self.n_items, self.length = n_items, self._recommender.config.length
        with torch.device("meta"):
            self._module = _Called(self._recommender.build(0, n_items), self.states_of)

    def draw(self, seed: int) -> Parameters:
        """New parameters, as the model draws them."""
        with torch.random.fork_rng([]):
            torch.manual_seed(hashing.stream("students/parameters", seed))
            module = self._recommender.build(0, self.n_items)
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def states(self, parameters: Parameters, tokens: Tokens, training: bool = False) -> torch.Tensor:
        """States [b, w, dim] after each token.

        Args:
            parameters: as :meth:`draw` gives them.
            tokens: soft ones, [b, w, n_items] with rows that sum to 1; or items int64 [b, w], padded at the
                left with n_items.
            training: whether dropout is on.
        """
        self._module.train(training)
        named = {f"encoder.{name}": value for name, value in parameters.items()}
        states: torch.Tensor = torch.func.functional_call(self._module, named, (tokens,))
        return states

    def table(self, parameters: Parameters) -> torch.Tensor:
        """E [n_items, dim], the items' vectors; scores are states Eᵀ."""
        return parameters["items.weight"][:-1]

    def soft_loss(self, parameters: Parameters, inputs: Tokens, targets: Tokens) -> torch.Tensor:
        """Cross-entropy of the next token, mean over places; ``inputs``, ``targets`` [b, w, n_items].

        Rows of targets Y sum to 1, so −Σ Y log softmax(h Eᵀ) = logsumexp(h Eᵀ) − ⟨h, Y E⟩. Under autocast these are
        added up in the parameters' own precision.
        """
        table = self.table(parameters)
        states = self.states(parameters, inputs, training=True).to(table.dtype)
        flat = states.flatten(0, 1)
        if self.n_items <= soft_tokens.CHUNKED_ABOVE and (inputs.requires_grad or targets.requires_grad):
            # A second derivative will be asked for: one graph of all positions is faster than recomputed chunks.
            partition = (flat @ table.T).to(table.dtype).logsumexp(dim=1).sum()
        else:
            partition = log_partition(flat, table)
        return (partition - (states * (targets @ table).to(table.dtype)).sum()) / len(flat)

    def recommender(self, parameters: Parameters, item_space: str | None = None) -> SequentialRecommender:
        """The model itself with these parameters, as a fit would give it.

        Args:
            parameters: as :meth:`draw` gives them.
            item_space: fingerprint of the item numbering.
        """
        model = type(self._recommender)(self._recommender.config)
        weights = {name: value.detach().cpu().numpy() for name, value in parameters.items()}
        model._set_weights({**weights, "n_users": np.zeros(1, np.int64)}, self.n_items)
        model.n_items, model.item_space = self.n_items, item_space
        return model

    def item_scores(self, parameters: Parameters, histories: Interactions) -> np.ndarray:
        """float32 [b, n_items]: scores of all items after the histories."""
        with torch.no_grad():
            table = self.table(parameters)
            items = torch.from_numpy(pad_left(histories, self.length)).to(table.device)
            return (self.states(parameters, items)[:, -1] @ table.T).float().cpu().numpy()

    @abstractmethod
    def states_of(self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """States from the items' vectors [b, w, dim]; ``real`` bool [b, w] is False at the padding."""


class SASRecStudent(Student):
    """SASRec: attention written out, no key bias."""

    model: ClassVar[str] = "sasrec"

    def states_of(self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        width = real.shape[1]
        if width > self.length:
            raise DasError(f"A sequence of {width} tokens is longer than the student's length={self.length}.")
        x = vectors * vectors.shape[2] ** 0.5 + encoder.places[-width:]
        x = F.dropout(x, encoder.dropout, encoder.training)
        allowed = visible(real)
        for block in encoder.blocks:
            x = block(x * real[..., None], allowed)
        return encoder.last(x)


class GRU4RecStudent(Student):
    """GRU4Rec: the recurrence written out, since a GPU's fused one has no second derivative."""

    model: ClassVar[str] = "gru4rec"

    def states_of(self, encoder: Any, vectors: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        x = F.dropout(vectors * vectors.shape[2] ** 0.5, encoder.dropout, encoder.training)
        gru = encoder.recurrence.gru
        inputs = F.linear(x, gru.weight_ih_l0, gru.bias_ih_l0)
        state, states = x.new_zeros(len(x), gru.hidden_size), []
        for place in range(x.shape[1]):
            from_input = inputs[:, place].chunk(3, dim=1)
            from_state = F.linear(state, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3, dim=1)
            reset, update = ((a + b).sigmoid() for a, b in zip(from_input[:2], from_state[:2]))
            new = (from_input[2] + reset * from_state[2]).tanh()
            # Before a sequence's first item the state stays 0.
            state = (new + update * (state - new)) * real[:, place, None]
            states.append(state)
        return encoder.output(F.dropout(torch.stack(states, dim=1), encoder.dropout, encoder.training))


STUDENTS: dict[str, type[Student]] = {student.model: student for student in (SASRecStudent, GRU4RecStudent)}
"""Students by the model's name."""


def create_student(model: str, n_items: int, settings: dict[str, Any] | None = None) -> Student:
    """The student form of a model.

    Raises:
        DasError: for a model that has none, or settings that it refuses.
    """
    if model not in STUDENTS:
        raise SettingError(
            f"{model} cannot be a student: it has no form that reads soft tokens and can be differentiated twice; "
            f"choose {' or '.join(STUDENTS)}."
        )
    return STUDENTS[model](n_items, settings or {})


class _Called(nn.Module):
    """An encoder that takes tokens of both kinds, as one call: what torch.func.functional_call needs."""

    def __init__(self, encoder: nn.Module, states_of: Any) -> None:
        super().__init__()
        self.encoder, self._states_of = encoder, states_of

    def forward(self, tokens: Tokens) -> torch.Tensor:
        weight = cast(SequenceEncoder, self.encoder).items.weight
        if isinstance(tokens, SoftTokens) or tokens.is_floating_point():
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            return self._states_of(self.encoder, tokens @ weight[:-1], real)
        return self._states_of(self.encoder, F.embedding(tokens, weight), tokens < len(weight) - 1)
