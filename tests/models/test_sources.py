"""Pieces of a worker's share: every user in one of them, and shards of few users together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.models.training import sources
from distill_at_scale.models.training.sources import ShardSource, most_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset

USERS = [1, 2, 1, 1, 3, 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    first = np.cumsum([0, *USERS])
    rows = [
        [(user, item, 1.0, item, item % 3) for user in range(begin, begin + n) for item in range(4 + user % 2)]
        for begin, n in zip(first, USERS)
    ]
    return write_dataset(tmp_path_factory.mktemp("sources") / "data", rows, USERS, 5)


@pytest.mark.parametrize("join", [0, 3, 100])
@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_row_is_in_one_piece_of_one_worker(data: Dataset, world: int, join: int) -> None:
    largest, users, n_rows = 0, [], 0
    for rank in range(world):
        source = ShardSource(data, rank, world, join=join)
        for piece in range(source.n_pieces):
            train, heldout = source.train(piece), source.validation(piece)
            assert heldout is not None
            assert train.users.tolist() == heldout.users.tolist()
            users += train.users.tolist()
            n_rows += train.n_rows
            read = source.pieces[piece]
            largest = max(largest, sum(int(data.shards.rows[shard]) for shard in read.shards) // read.cuts)
    assert sorted(users) == list(range(data.n_users))
    assert n_rows == data.manifest.splits["train"]
    # Of a shard that is cut a run may have a row more than its share.
    assert largest <= most_rows(data, world, join) <= largest + 1


def test_shards_of_few_users_are_joined_up_to_a_number_of_rows(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def shards(world: int, join: int) -> list[list[tuple[int, ...]]]:
        return [[one.shards for one in ShardSource(data, rank, world, join=join).pieces] for rank in range(world)]

    assert shards(1, 0) == shards(1, 1) == [[(0,), (1,), (2,), (3,), (4,), (5,)]]
    assert shards(1, 9) == [[(0, 1, 2, 3, 4, 5)]]
    assert shards(1, 3) == [[(0, 1), (2, 3), (4,), (5,)]]
    # Two workers take half a batch each.
    assert shards(2, 5) == [[(0, 2), (4,)], [(1,), (3, 5)]]
    monkeypatch.setattr(sources, "_JOINED_ROWS", int(data.shards.rows[:2].sum()) - 1)
    assert shards(1, 4) == [[(0,), (1,), (2, 3), (4,), (5,)]]
