"""The outer loss: how well a student trained on synthetic sequences predicts real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError

# Replaces −∞, which would give NaN: e^-1e4 is 0 in every precision.
_NEVER = -1e4


@dataclass(frozen=True)
class OuterBatch:
    """Windows of real sequences, and positions at which the next item is predicted.

    Attributes:
        items: int64 [b, w], padded on the left with n_items.
        rows, columns: int64 [p], predicted positions in ``items``.
        answers: int64 [p], the actual next items.
        seen_rows, seen_items: int64 [m], pairs (position in ``answers``, item) that are excluded from the prediction.
        drawn: int64 [k], ascending: the items among which the answers are predicted; none: among all.
    """

    items: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    answers: torch.Tensor
    seen_rows: torch.Tensor
    seen_items: torch.Tensor
    drawn: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def to(self, device: torch.device) -> OuterBatch:
        """Copies the batch to a device."""
        return OuterBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


class OuterBatches:
    """Draws outer batches from train rows: windows of all users, with random ends.

    Each batch is seeded by its position (step, pool), so that it does not depend on earlier ones.
    """

    def __init__(self, rows: Interactions, length: int, least_context: int, seed: int, sampled: int = 0) -> None:
        """
        Args:
            rows: Train rows.
            length: Number of input items of a window.
            least_context: Minimum number of items before a predicted position.
            seed: Seed of all outer batches.
            sampled: Number of items drawn for each, among which the answers are predicted; 0: all.

        Raises:
            DasError: No user has more than ``least_context`` rows.
        """
        self._rows, self._length, self._least, self._seed = rows, length, least_context, seed
        self._sampled = min(sampled, rows.n_items)
        self._users = np.flatnonzero(rows.counts > least_context)
        if not len(self._users):
            raise DasError(f"No user has more than least_context={least_context} train rows; set it smaller.")

    def draw(self, n_users: int, n_places: int, *place: int) -> OuterBatch:
        """Draws ``n_users`` windows (users with replacement) and up to ``n_places`` predicted positions in them."""
        rng = np.random.default_rng(hashing.stream("farzi/lessons", self._seed, *place))
        users = rng.choice(self._users, size=n_users)
        counts = self._rows.counts[users]
        # A window's end is one past its last answer; all ends of a user are equally likely.
        ends = rng.integers(self._least + 1, counts + 1)
        starts = np.maximum(ends - self._length - 1, 0)
        width = int((ends - starts).max()) - 1
        place_of = ends[:, None] - 1 - width + np.arange(width)
        inside = place_of >= starts[:, None]
        first = self._rows.offsets[users][:, None]
        items = np.where(inside, self._rows.items[first + np.maximum(place_of, 0)], self._rows.n_items)
        rows, columns = np.nonzero(inside & (place_of - starts[:, None] + 1 >= self._least))
        chosen = np.sort(rng.permutation(len(rows))[:n_places])
        rows, columns = rows[chosen], columns[chosen]
        before = place_of[rows, columns] + 1
        answers = self._rows.items[first[rows, 0] + before].astype(np.int64)
        seen_rows = np.repeat(np.arange(len(rows)), before)
        offset = ragged.positions(before)
        seen_items = self._rows.items[np.repeat(first[rows, 0], before) + offset].astype(np.int64)
        new = seen_items != answers[seen_rows]  # an item may come again
        drawn = np.sort(rng.choice(self._rows.n_items, self._sampled, replace=False)).astype(np.int64)
        found = (items.astype(np.int64), rows, columns, answers, seen_rows[new], seen_items[new], drawn)
        return OuterBatch(*(torch.from_numpy(part) for part in found))


def outer_loss(
    student: Student,
    parameters: Parameters,
    batch: OuterBatch,
    teachers: Sequence[Teacher],
    teacher_share: float,
    alignment: float = 0.0,
) -> torch.Tensor:
    """Returns the mean over positions of (1 − share) · −log p(answer) + share · KL(teachers ‖ student), over unseen
    items.

    The teachers' distributions are averaged. Without teachers, the share is 0. If the batch has drawn items, a
    position's items are these and its answer, and the drawn ones stand for all others. Else, above 50,000 items, scores
    are computed in chunks of positions, and recomputed in the backward pass. ``alignment`` times the mean
    :func:`dissimilarity` of the student's states to each teacher's is added.
    """
    n_places, of_all = len(batch.answers), not len(batch.drawn)
    own = _factors(student.states(parameters, batch.items), student, parameters, batch)
    known = _factors_of(teachers, batch) if teacher_share or alignment else []
    total = own.table.new_zeros(())
    if alignment and known:
        unlike = [dissimilarity(own.states, t.states) for t in known]
        total = total + n_places * alignment * torch.stack(unlike).mean()
    if not teacher_share:
        known = []
    if student.n_items <= soft_tokens.CHUNKED_ABOVE or not of_all:
        return (total + _loss_at(slice(0, n_places), batch, own, known, teacher_share)) / n_places
    for some in soft_tokens.chunks(n_places, student.n_items, own.states.itemsize):
        part = slice(some.start, min(some.stop, n_places))
        total = total + checkpoint(_loss_at, part, batch, own, known, teacher_share, use_reentrant=False)
    return total / n_places


def target_vectors(
    student: Student, parameters: Parameters, batch: OuterBatch, teachers: Sequence[Teacher], teacher_share: float
) -> torch.Tensor:
    """Returns the expected vectors [p, dim], by the student's table, of the targets in the outer loss: the answer with
    weight 1 − share, and the teachers' mean prediction among unseen items. Without gradients.

    With drawn items, they are those among which the answers are predicted.
    """
    with torch.no_grad():
        answers = student.vectors(parameters, batch.answers)
        known = _factors_of(teachers, batch) if teacher_share else []
        if not known:
            return answers
        of_all = not len(batch.drawn)
        table = student.table(parameters) if of_all else student.vectors(parameters, batch.drawn)
        parts = []
        for some in soft_tokens.chunks(len(answers), len(table), answers.itemsize):
            shares = _mean_shares(some, batch, known)
            right = answers[some]
            theirs = shares @ table if of_all else shares[:, :1] * right + shares[:, 1:] @ table
            parts.append((1 - teacher_share) * right + teacher_share * theirs)
        return torch.cat(parts)


def dissimilarity(states: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Returns 1 − linear CKA of states [p, dim] and others [p, dim']: 0 if they are equal up to rotation and scale.

    States of two models at the same positions cannot be compared by coordinate, since each has its own basis.
    Source: Kornblith et al., "Similarity of neural network representations revisited" (ICML 2019).
    """
    x, y = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (states, others))
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return 1 - (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


@dataclass(frozen=True)
class _ScoreFactors:
    """Factors of a model's scores at the predicted positions: states [p, dim] and the items' table [n_items, dim].

    With drawn items, these are ``table``; ``right`` are the answers' vectors [p, dim], the first column of the scores.
    """

    states: torch.Tensor
    table: torch.Tensor
    right: torch.Tensor | None = None
    n_items: int = 0

    def log_probabilities(self, some: slice, batch: OuterBatch) -> torch.Tensor:
        """Returns log probabilities over unseen items, [positions, n_items], for a slice of the positions; with drawn
        ones [positions, 1 + k], of the answer and of what each drawn item stands for."""
        if self.right is not None:
            return self._of_drawn(self.right, some, batch)
        logits = (self.states[some] @ self.table.T).to(self.table.dtype)
        ends = torch.tensor([some.start, some.stop], device=logits.device)
        # Pairs are sorted by position.
        first, last = torch.searchsorted(batch.seen_rows, ends).tolist()
        seen = batch.seen_rows[first:last] - some.start, batch.seen_items[first:last]
        return logits.index_put(seen, logits.new_tensor(_NEVER)).log_softmax(dim=1)

    def _of_drawn(self, right: torch.Tensor, some: slice, batch: OuterBatch) -> torch.Tensor:
        states = self.states[some]
        answer = (states * right[some]).sum(dim=1, keepdim=True).to(self.table.dtype)
        others = (states @ self.table.T).to(self.table.dtype)
        excluded, n_excluded = (part[some] for part in _excluded(batch, self.n_items))
        n_left = (~excluded).sum(dim=1).clamp(min=1)
        others = others + ((self.n_items - n_excluded) / n_left).log()[:, None]
        return torch.cat((answer, others.masked_fill(excluded, _NEVER)), dim=1).log_softmax(dim=1)


def _factors(states: torch.Tensor, student: Student, parameters: Parameters, batch: OuterBatch) -> _ScoreFactors:
    states = states[batch.rows, batch.columns]
    if not len(batch.drawn):
        return _ScoreFactors(states, student.table(parameters))
    right = student.vectors(parameters, batch.answers)
    return _ScoreFactors(states, student.vectors(parameters, batch.drawn), right, student.n_items)


def _factors_of(teachers: Sequence[Teacher], batch: OuterBatch) -> list[_ScoreFactors]:
    return [_factors(t.states(batch.items), t.student, t.parameters, batch) for t in teachers]


def _mean_shares(some: slice, batch: OuterBatch, teachers: Sequence[_ScoreFactors]) -> torch.Tensor:
    """Returns the teachers' mean distributions over unseen items, in the form of
    :meth:`_ScoreFactors.log_probabilities`."""
    first, *others = (teacher.log_probabilities(some, batch).exp_() for teacher in teachers)
    for other in others:
        first += other
    return first.div_(len(teachers))


def _excluded(batch: OuterBatch, n_items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns which drawn items are a position's answer or excluded there, bool [p, k], and how many items are, [p]."""
    n_places, device = len(batch.answers), batch.answers.device
    rows = torch.cat((torch.arange(n_places, device=device), batch.seen_rows))
    pairs = torch.unique(rows * n_items + torch.cat((batch.answers, batch.seen_items)))
    rows, items = pairs // n_items, pairs % n_items
    place = torch.searchsorted(batch.drawn, items).clamp(max=len(batch.drawn) - 1)
    hit = batch.drawn[place] == items
    found = torch.zeros(n_places, len(batch.drawn), dtype=torch.bool, device=device)
    found[rows[hit], place[hit]] = True
    return found, torch.bincount(rows, minlength=n_places)


def _loss_at(
    some: slice, batch: OuterBatch, student: _ScoreFactors, teachers: Sequence[_ScoreFactors], teacher_share: float
) -> torch.Tensor:
    """Returns the sum of the loss over a slice of the positions."""
    log_p = student.log_probabilities(some, batch)
    hard = -(log_p.gather(1, batch.answers[some, None]) if student.right is None else log_p[:, 0]).sum()
    if not teachers:
        return hard
    with torch.no_grad():
        theirs = _mean_shares(some, batch, teachers)
        entropy = -torch.special.xlogy(theirs, theirs).sum()
    divergence = -(theirs * log_p).sum() - entropy
    return (1 - teacher_share) * hard + teacher_share * divergence
