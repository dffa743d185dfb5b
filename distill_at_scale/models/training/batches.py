"""Batches of gradient training, as a function of seed, epoch and step alone.

No generator state is carried between steps: an epoch's order is a sort by hashes, and the draws of a step (negatives,
dropout) are seeded by its epoch and number. A run that resumes after a kill therefore continues exactly.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.ordering import sorted_integers

Batch = dict[str, torch.Tensor]
"""Tensors by name, on the CPU."""


class Examples(ABC):
    """The units of one piece that a model learns from: rows, or users.

    Attributes:
        keys: uint64 [units], identity of each unit, independent of the rest of the piece.
        rating_sum: Sum of all ratings, 0 if they are not used.
    """

    keys: np.ndarray
    rating_sum: float = 0.0

    def __len__(self) -> int:
        """Number of units."""
        return len(self.keys)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the units' positions in the order of an epoch, int64 [units]."""
        begin = hashing.stream("training/order of units", seed, epoch)
        return np.argsort(hashing.combine(begin, self.keys), kind="stable")

    @abstractmethod
    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        """Returns the batch of the units at the positions ``chosen``; ``rng`` is the step's own."""


def batches(
    examples: Examples, size: int, seed: int, epoch: int, rank: int = 0, before: int = 0, skip: int = 0
) -> Iterator[Batch]:
    """Yields the batches of one piece in one epoch.

    Args:
        size: Units per batch.
        rank: Number of the worker.
        before: Number of the epoch's batches before this piece.
        skip: Number of the piece's batches to leave out.
    """
    order = examples.order(seed, epoch)
    for k in range(skip, -(-len(examples) // size)):
        rng = np.random.default_rng(hashing.stream("training/batches", seed, epoch, before + k, rank))
        yield examples.batch(order[k * size : (k + 1) * size], rng)


def draws_of_parameters(seed: int) -> hashing.Stream:
    """Returns the stream of a model's initial parameters."""
    return hashing.stream("training/parameters", seed)


def draws_of_step(seed: int, epoch: int, step: int, rank: int = 0) -> hashing.Stream:
    """Returns the stream of a step's dropout."""
    return hashing.stream("training/steps", seed, epoch, step, rank)


@contextlib.contextmanager
def seeded(begin: hashing.Stream) -> Iterator[None]:
    """Seeds torch's generators for a block, and restores them afterwards."""
    # torch.manual_seed would record a traceback for every missing kind of device, which takes as long as a small step.
    generators = [torch.default_generator]
    if torch.cuda.is_available():
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(begin)
    try:
        yield
    finally:
        for generator, state in zip(generators, states):
            generator.set_state(state)


class RatingExamples(Examples):
    """Rows with their ratings: ``user`` int64 [b], ``item`` int64 [b], ``rating`` float32 [b]."""

    def __init__(self, rows: Interactions) -> None:
        self._users = np.repeat(rows.users, rows.counts)
        self._items = rows.items.astype(np.int64)
        assert rows.ratings is not None
        self._ratings = rows.ratings
        self.rating_sum = float(self._ratings.sum(dtype=np.float64))
        self.keys = pair_keys(self._users, self._items, rows.n_items).view(np.uint64)

    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        return {
            "user": torch.from_numpy(self._users[chosen]),
            "item": torch.from_numpy(self._items[chosen]),
            "rating": torch.from_numpy(self._ratings[chosen]),
        }


class PairExamples(Examples):
    """Distinct pairs of user and item, each with uniformly drawn items: ``user``, ``item`` int64 [b];
    ``negative`` int64 [b, n]; ``seen`` bool [b, n], whether the user has that item in the train rows nevertheless."""

    def __init__(self, rows: Interactions, n_negatives: int) -> None:
        self._n_items, self._n_negatives = rows.n_items, n_negatives
        users = np.repeat(rows.users, rows.counts)
        self._pairs = distinct_pairs(users, rows.items.astype(np.int64), rows.n_items)
        self.keys = self._pairs.view(np.uint64)

    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        users, items = np.divmod(self._pairs[chosen], self._n_items)
        negatives = rng.integers(self._n_items, size=(len(chosen), self._n_negatives))
        drawn = pair_keys(users[:, None], negatives, self._n_items)
        position = np.minimum(np.searchsorted(self._pairs, drawn), len(self._pairs) - 1)
        return {
            "user": torch.from_numpy(users),
            "item": torch.from_numpy(items),
            "negative": torch.from_numpy(negatives),
            "seen": torch.from_numpy(self._pairs[position] == drawn),
        }


class SetExamples(Examples):
    """Users with the set of their items: ``owner`` int64 [m] (0 … b − 1) and ``item`` int64 [m], ``n`` the number of
    users, ``user`` int64 [b] their numbers; ``weight`` float32 [b], the mean weight of their rows, if any."""

    def __init__(self, rows: Interactions) -> None:
        self._rows = rows.take(np.flatnonzero(rows.counts > 0), timestamps=False)
        self.keys = self._rows.users.astype(np.uint64)

    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._rows.take(chosen, timestamps=False)
        batch = set_batch(rows)
        if rows.weights is not None:
            batch["weight"] = torch.from_numpy(rows.user_weights().astype(np.float32))
        return batch


class SequenceExamples(Examples):
    """Users with at least two items, in order: ``items`` int64 [b, w], their last ``length`` + 1, the newest at the
    right, left-padded with n_items; w is the length of the longest."""

    def __init__(self, rows: Interactions, length: int) -> None:
        self._rows = rows.take(np.flatnonzero(rows.counts > 1), timestamps=False)
        self._length = length
        self.keys = self._rows.users.astype(np.uint64)

    def batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        return {"items": torch.from_numpy(pad_left(self._rows.take(chosen, timestamps=False), self._length + 1))}


def set_batch(rows: Interactions) -> Batch:
    """Returns the users' distinct items, in the form of :class:`SetExamples`."""
    owner = np.repeat(np.arange(len(rows), dtype=np.int64), rows.counts)
    owner, items = np.divmod(distinct_pairs(owner, rows.items.astype(np.int64), rows.n_items), rows.n_items)
    return {
        "owner": torch.from_numpy(owner),
        "item": torch.from_numpy(items),
        "n": torch.tensor(len(rows)),
        "user": torch.from_numpy(rows.users),
    }


def pad_left(rows: Interactions, length: int) -> np.ndarray:
    """Returns every user's last items, int64 [b, w], the newest at the right, left-padded with n_items; w ≤ length is
    that of the longest, and at least 1."""
    counts = np.minimum(rows.counts, length)
    width = max(1, int(counts.max(initial=0)))
    padded = np.full((len(rows), width), rows.n_items, dtype=np.int64)
    filled = np.arange(width)[None, :] >= width - counts[:, None]
    first = np.repeat(rows.offsets[1:] - counts, counts)
    position = ragged.positions(counts)
    padded[filled] = rows.items[first + position]
    return padded


def pair_keys(users: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Encodes pairs of user and item as one int64 number each."""
    return users * np.int64(n_items) + items


def distinct_pairs(users: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Returns the :func:`pair_keys` of distinct pairs, ascending. np.unique, which hashes, takes 20 times as long."""
    keys = sorted_integers(pair_keys(users, items, n_items))
    return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
