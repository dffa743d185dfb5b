"""Lessons: the outer loss, which says how well a student trained on synthetic sequences predicts real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.farzi.initialisation import Teacher
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError

# Stands for −∞ without its NaNs: e^-1e4 is 0 in every precision.
_NEVER = -1e4


@dataclass(frozen=True)
class OuterBatch:
    """Places in real sequences at which the next item is asked for.

    Attributes:
        items: int64 [b, w], padded at the left with n_items.
        rows, columns: int64 [p], the places asked.
        answers: int64 [p], the items that came next.
        seen_rows, seen_items: int64 [m], (position in ``answers``, item) pairs that cannot come next.
    """

    items: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    answers: torch.Tensor
    seen_rows: torch.Tensor
    seen_items: torch.Tensor

    def to(self, device: torch.device) -> OuterBatch:
        """The same on a device."""
        return OuterBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


class OuterBatches:
    """Draws lessons from train rows: every user's windows, wherever they end.

    Each lesson is seeded by its place, so that none depends on the ones before.
    """

    def __init__(self, rows: Interactions, length: int, least_context: int, seed: int) -> None:
        """
        Args:
            rows: train rows.
            length: items of a window, the asked ones not counted.
            least_context: items that must stand before a place that is asked.
            seed: Seed of all outer batches.

        Raises:
            DasError: when no user has as many rows.
        """
        self._rows, self._length, self._least, self._seed = rows, length, least_context, seed
        self._users = np.flatnonzero(rows.counts > least_context)
        if not len(self._users):
            raise DasError(f"No user has more than least_context={least_context} train rows; set it smaller.")

    def draw(self, n_users: int, n_places: int, *place: int) -> OuterBatch:
        """The lesson of a place: ``n_users`` windows (users drawn with replacement), up to ``n_places`` in them."""
        rng = np.random.default_rng(hashing.stream("farzi/lessons", self._seed, *place))
        users = rng.choice(self._users, size=n_users)
        counts = self._rows.counts[users]
        # A window's end is one past its last answer; the newest are as likely as any other.
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
        found = (items.astype(np.int64), rows, columns, answers, seen_rows[new], seen_items[new])
        return OuterBatch(*(torch.from_numpy(part) for part in found))


def outer_loss(
    student: Student,
    parameters: Parameters,
    lesson: OuterBatch,
    teachers: Sequence[Teacher],
    teacher_share: float,
    alignment: float = 0.0,
) -> torch.Tensor:
    """Mean over the places of (1 − share) · −log p(answer) + share · KL(teachers ‖ student), over unseen items.

    The teachers' distribution is the mean of theirs. Without teachers the share counts as 0. Above 50,000 items a few
    places' scores are made at a time, and again on the way back. ``alignment`` times :func:`unlikeness` of the
    student's states to each teacher's, on average, is added.
    """
    places = lesson.rows, lesson.columns
    asked = _Asked(student.states(parameters, lesson.items)[places], student.table(parameters))
    known = [
        _Asked(t.states(lesson.items)[places], t.student.table(t.parameters))
        for t in teachers
        if teacher_share or alignment
    ]
    n_places = len(lesson.answers)
    total = asked.table.new_zeros(())
    if alignment and known:
        unlike = [unlikeness(asked.states, t.states) for t in known]
        total = total + n_places * alignment * torch.stack(unlike).mean()
    if not teacher_share:
        known = []
    if student.n_items <= soft_tokens.CHUNKED_ABOVE:
        return (total + _loss_at(slice(0, n_places), lesson, asked, known, teacher_share)) / n_places
    for some in soft_tokens.chunks(n_places, student.n_items, asked.states.itemsize):
        part = slice(some.start, min(some.stop, n_places))
        total = total + checkpoint(_loss_at, part, lesson, asked, known, teacher_share, use_reentrant=False)
    return total / n_places


def unlikeness(states: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """1 − linear CKA of states [p, dim] and others [p, dim']: 0 where they are alike but for a turn and a scale.

    Two models' states of the same places cannot be compared number by number, the directions of each being its own.
    Source: Kornblith et al., "Similarity of neural network representations revisited" (ICML 2019).
    """
    x, y = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (states, others))
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return 1 - (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


@dataclass(frozen=True)
class _Asked:
    """What a model's scores at the places asked are made of: states [p, dim] and the items' table [n_items, dim]."""

    states: torch.Tensor
    table: torch.Tensor

    def log_probabilities(self, some: slice, lesson: OuterBatch) -> torch.Tensor:
        """[places, n_items] of some of the places, over unseen items."""
        logits = (self.states[some] @ self.table.T).to(self.table.dtype)
        ends = torch.tensor([some.start, some.stop], device=logits.device)
        # Pairs come in the order of their places.
        first, last = torch.searchsorted(lesson.seen_rows, ends).tolist()
        seen = lesson.seen_rows[first:last] - some.start, lesson.seen_items[first:last]
        return logits.index_put(seen, logits.new_tensor(_NEVER)).log_softmax(dim=1)


def _loss_at(
    some: slice, lesson: OuterBatch, asked: _Asked, known: Sequence[_Asked], teacher_share: float
) -> torch.Tensor:
    """The sum over some of the places."""
    own = asked.log_probabilities(some, lesson)
    hard = -own.gather(1, lesson.answers[some, None]).sum()
    if not known:
        return hard
    with torch.no_grad():
        theirs = torch.zeros_like(own)
        for teacher in known:
            theirs += teacher.log_probabilities(some, lesson).exp_()
        theirs /= len(known)
        entropy = -torch.special.xlogy(theirs, theirs).sum()
    divergence = -(theirs * own).sum() - entropy
    return (1 - teacher_share) * hard + teacher_share * divergence
