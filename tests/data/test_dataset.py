"""Dataset: what it gives of its shards is what a naive reading of them gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_kit import SPLITS, Row, write_dataset

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError

# User 1 has no test row, user 3 only train rows, user 4 no row at all; the last shard has one user.
SHARDS: list[list[Row]] = [
    [
        (0, 2, 1.5, 10, 0),
        (0, 0, -2.0, 10, 0),
        (0, 4, 3.0, 30, 1),
        (0, 1, 4.0, 40, 2),
        (1, 4, 5.0, 5, 0),
        (1, 0, 1.0, 6, 1),
    ],
    [(2, 3, 1.0, 1, 0), (2, 1, 2.0, 2, 2), (3, 1, 2.5, 7, 0), (3, 0, 0.5, 8, 0)],
    [(5, 0, 1.0, 3, 0), (5, 1, 1.0, 4, 1), (5, 2, 1.0, 5, 2)],
]
USERS = [2, 3, 1]
N_ITEMS = 5


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "data", SHARDS, USERS, N_ITEMS)


def naive(splits: tuple[str, ...], shards: list[int]) -> list[tuple[int, list[Row]]]:
    codes = [SPLITS.index(name) for name in splits]
    found = []
    for shard in shards:
        first = sum(USERS[:shard])
        for user in range(first, first + USERS[shard]):
            rows = [row for row in SHARDS[shard] if row[0] == user and row[4] in codes]
            found.append((user, rows))
    return found


def as_rows(interactions: Interactions) -> list[tuple[int, list[tuple]]]:
    assert interactions.ratings is not None
    assert interactions.timestamps is not None
    found = []
    for k, user in enumerate(interactions.users.tolist()):
        span = slice(interactions.offsets[k], interactions.offsets[k + 1])
        columns = (interactions.items, interactions.ratings, interactions.timestamps)
        found.append((user, list(zip(*(column[span].tolist() for column in columns)))))
    return found


@pytest.mark.parametrize("splits", [(), ("train",), ("test",), ("train", "validation"), ("test", "train"), SPLITS])
@pytest.mark.parametrize("shards", [None, [1], [2, 0], []])
def test_interactions(dataset: Dataset, splits: tuple[str, ...], shards: list[int] | None) -> None:
    found = dataset.interactions(*splits, shards=shards)
    wanted = naive(splits or ("train",), [0, 1, 2] if shards is None else shards)
    assert as_rows(found) == [(user, [row[1:4] for row in rows]) for user, rows in wanted]
    assert (found.n_items, found.offsets.dtype, found.items.dtype) == (N_ITEMS, np.int64, np.int32)
    matrix, ratings = np.zeros((len(wanted), N_ITEMS)), np.zeros((len(wanted), N_ITEMS))
    for k, (_, rows) in enumerate(wanted):
        for _, item, rating, _, _ in rows:
            matrix[k, item], ratings[k, item] = 1, rating
    assert (found.to_csr().toarray() == matrix).all()
    assert (found.to_csr("rating").toarray() == ratings).all()


def test_one_shard_after_another(dataset: Dataset) -> None:
    parts = list(dataset.iter_interactions("train", "test"))
    assert [as_rows(part) for part in parts] == [
        [(user, [row[1:4] for row in rows]) for user, rows in naive(("train", "test"), [k])] for k in range(3)
    ]


@pytest.mark.parametrize(("split", "inputs"), [("validation", ("train",)), ("test", ("train", "validation"))])
def test_histories(dataset: Dataset, split: str, inputs: tuple[str, ...]) -> None:
    for shard in range(3):
        history, held_out = dataset.histories(split, shard)
        assert as_rows(history) == [(u, [row[1:4] for row in rows]) for u, rows in naive(inputs, [shard])]
        assert as_rows(held_out) == [(u, [row[1:4] for row in rows]) for u, rows in naive((split,), [shard])]


def test_counts_and_ids(dataset: Dataset) -> None:
    assert (dataset.n_users, dataset.n_items, dataset.n_rows) == (6, 5, 13)
    train = [row[1] for rows in SHARDS for row in rows if row[4] == 0]
    assert dataset.train_counts().tolist() == [train.count(item) for item in range(N_ITEMS)]
    assert dataset.items()["item_id"].to_list() == [0, 10, 20, 30, 40]
    assert dataset.users(1).rows() == [(2, "u2", 1, 0, 1), (3, "u3", 2, 0, 0), (4, "u4", 0, 0, 0)]
    assert dataset.table(2, ["item"]).to_pydict() == {"item": [0, 1, 2]}


def test_log_without_ratings_and_times(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, SHARDS, USERS, N_ITEMS, has_ratings=False, has_timestamps=False)
    found = data.interactions()
    assert found.ratings is None
    assert found.timestamps is None
    assert found.to_csr("rating").sum() == found.n_rows


def test_wrong_splits(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"unknown split 'dev'; the splits are train, validation, test\."):
        dataset.interactions("dev")
    with pytest.raises(DasError, match="split 'train' cannot be evaluated on"):
        dataset.histories("train", 0)
    only_train = write_dataset(tmp_path / "t", [[(0, 0, 1.0, 0, 0)]], [1], 1)
    with pytest.raises(DasError, match="has no validation rows"):
        only_train.histories("validation", 0)


def test_a_moved_dataset_opens(dataset: Dataset, tmp_path: Path) -> None:
    shutil.move(dataset.uri, tmp_path / "elsewhere")
    moved = Dataset.open(str(tmp_path / "elsewhere"))
    moved.verify()
    assert moved.manifest.fingerprint == dataset.manifest.fingerprint
    assert as_rows(moved.interactions()) == [(u, [r[1:4] for r in rows]) for u, rows in naive(("train",), [0, 1, 2])]


@pytest.mark.parametrize("name", ["items.parquet", "shards/part-00001.parquet", "users/part-00002.parquet"])
def test_verify_names_what_is_tampered_with(dataset: Dataset, name: str) -> None:
    dataset.verify()
    path = Path(dataset.uri, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DasError, match=f"{name} differs from its checksum"):
        dataset.verify()
    path.write_bytes(b"PAR1")
    with pytest.raises(DasError, match=f"{name} differs from its checksum"):
        dataset.verify()
    path.unlink()
    with pytest.raises(DasError, match=f"{name} is missing"):
        dataset.verify()


def test_a_damaged_or_missing_shard_is_named(dataset: Dataset) -> None:
    path = Path(dataset.uri, "shards/part-00000.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        DasError, match=r"shards/part-00000\.parquet differs from its checksum; prepare the dataset again"
    ):
        dataset.interactions()
    path.unlink()
    with pytest.raises(DasError, match=r"shards/part-00000\.parquet is missing"):
        dataset.interactions()
