"""Sources of rows for training: pieces of whole users, one in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions

# Train and validation rows, and users, of a dataset that is small enough to keep what was read: about 10 MB.
_FEW = 1 << 19
# Rows of shards that are joined, at most: a tenth of a second of reading, and 400 MB.
_JOINED_ROWS = 1 << 23


class Source(Protocol):
    """One worker's share of the rows, in pieces.

    Attributes:
        n_users: Upper bound of user numbers, including those of other workers' shares.
        n_items: Number of items.
        n_pieces: Number of pieces of this worker.
        has_validation: Whether there are validation rows.
    """

    n_users: int
    n_items: int
    n_pieces: int
    has_validation: bool

    def train(self, piece: int) -> Interactions:
        """Returns the train rows of one piece."""

    def validation(self, piece: int) -> Interactions | None:
        """Returns the validation rows of the same users; None if the dataset has none."""

    def all_train(self) -> Interactions:
        """Returns the train rows of all workers' shares, for models that need them."""


class MemorySource:
    """Rows in memory, as one piece."""

    n_pieces = 1

    def __init__(self, train: Interactions, validation: Interactions | None) -> None:
        self._train, self._validation = train, validation
        self.has_validation = validation is not None
        self.n_users, self.n_items = int(train.users[-1]) + 1, train.n_items

    def train(self, piece: int) -> Interactions:
        return self._train

    def validation(self, piece: int) -> Interactions | None:
        return self._validation

    def all_train(self) -> Interactions:
        return self._train


@dataclass(frozen=True)
class ShardPiece:
    """What is read at once.

    Attributes:
        shards: Numbers of the shards.
        cut, cuts: Index of the run of their users, and the number of runs that they are cut into.
    """

    shards: tuple[int, ...]
    cut: int = 0
    cuts: int = 1


class ShardSource:
    """A worker's share of a Dataset, read piece by piece; only the current piece is in memory.

    Whole shards are dealt to the workers in turn. With fewer shards than workers, each shard is cut into runs of users,
    so that every worker has work. A piece is a shard or, with ``join``, several shards with at most this number
    of users over all workers, and 8 million rows: a shard has few users of long histories, and batches do not cross
    pieces. The last piece read is cached: a worker with one piece reads it once. The cache
    holds every piece of a small dataset, since reading them in each epoch takes longer than learning from them.

    Attributes:
        pieces: What is read at once.
    """

    def __init__(
        self,
        dataset: Dataset,
        rank: int = 0,
        world: int = 1,
        validation: bool = True,
        weights: bool = False,
        join: int = 0,
    ) -> None:
        """Args: ``validation`` and ``weights``: whether to read validation rows, and weights of train rows, if any;
        ``join``: number of users, over all workers, up to which shards are joined."""
        self.n_users, self.n_items = dataset.n_users, dataset.n_items
        self._dataset = dataset
        self._weights = weights
        self.has_validation = validation and dataset.manifest.splits.get("validation", 0) > 0
        self.pieces = _pieces(dataset, rank, world, join)
        self.n_pieces = len(self.pieces)
        splits = dataset.manifest.splits
        self._keeps_all = splits["train"] + splits.get("validation", 0) + 2 * dataset.n_users <= _FEW
        self._kept: dict[str, dict[int, Interactions]] = {}

    def train(self, piece: int) -> Interactions:
        return self._read("train", piece)

    def validation(self, piece: int) -> Interactions | None:
        return self._read("validation", piece) if self.has_validation else None

    def all_train(self) -> Interactions:
        return self._dataset.interactions("train", weights=self._weights)

    def _read(self, split: str, piece: int) -> Interactions:
        kept = self._kept.setdefault(split, {})
        if piece not in kept:
            if not self._keeps_all:
                kept.clear()
            read = self.pieces[piece]
            rows = self._dataset.interactions(split, shards=read.shards, weights=self._weights and split == "train")
            if read.cuts > 1:
                rows = rows.slice(len(rows) * read.cut // read.cuts, len(rows) * (read.cut + 1) // read.cuts)
            kept[piece] = rows
        return kept[piece]


def _pieces(dataset: Dataset, rank: int, world: int, join: int) -> list[ShardPiece]:
    n_shards = len(dataset.shards)
    if n_shards < world:
        cuts = -(-world // n_shards)
        every = [ShardPiece((shard,), cut, cuts) for cut in range(cuts) for shard in range(n_shards)]
        return every[rank::world]
    own = range(rank, n_shards, world)
    return _joined(dataset, own, join // world)


def _joined(dataset: Dataset, own: Sequence[int], most_users: int) -> list[ShardPiece]:
    users, rows = dataset.shards.n_users, dataset.shards.rows
    found: list[list[int]] = []
    n_users = n_rows = 0
    for shard in own:
        n_users, n_rows = n_users + int(users[shard]), n_rows + int(rows[shard])
        if not found or n_users > most_users or n_rows > _JOINED_ROWS:
            found.append([])
            n_users, n_rows = int(users[shard]), int(rows[shard])
        found[-1].append(shard)
    return [ShardPiece(tuple(shards)) for shards in found]


def most_rows(dataset: Dataset, workers: int, join: int = 0) -> int:
    """Returns the rows, of all splits, of the largest piece that one of several workers reads by a ShardSource."""
    pieces = (piece for rank in range(workers) for piece in _pieces(dataset, rank, workers, join))
    rows = dataset.shards.rows
    return max(-(-sum(int(rows[shard]) for shard in piece.shards) // piece.cuts) for piece in pieces)


def model_source(model: Any, dataset: Dataset, rank: int = 0, world: int = 1) -> ShardSource:
    """Returns a worker's share as a model that streams its rows wants it."""
    join = model.config.batch_size if model.joins_shards else 0
    return ShardSource(dataset, rank, world, weights=model.uses_weights, join=join)


class FilledSource:
    """A source without the users that have no train rows, who are the majority in a sample of whole users.

    Their all-zero rows would bias a model that reconstructs histories towards zero.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.n_users, self.n_items, self.n_pieces = source.n_users, source.n_items, source.n_pieces
        self.has_validation = source.has_validation

    def train(self, piece: int) -> Interactions:
        return filled(self._source.train(piece), None)[0]

    def validation(self, piece: int) -> Interactions | None:
        heldout = self._source.validation(piece)
        return None if heldout is None else filled(self._source.train(piece), heldout)[1]

    def all_train(self) -> Interactions:
        return filled(self._source.all_train(), None)[0]


def filled(train: Interactions, validation: Interactions | None) -> tuple[Interactions, Interactions | None]:
    """Returns the rows of the users with train rows.

    Args:
        train, validation: Rows of the same users in the same order.
    """
    positions = np.flatnonzero(train.counts > 0)
    if len(positions) == len(train):
        return train, validation
    some = train.take(positions, timestamps=False)
    return some, None if validation is None else validation.take(positions, timestamps=False)
