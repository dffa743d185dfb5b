"""Recorded files: whatever bit of them is flipped, their reading says so or is none the worse."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import Row, write_dataset

from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DamagedFileError

SHARDS: list[list[Row]] = [
    [
        (user, (user * k) % 40, 1.0 + k % 5, 1000 * k, 0 if k < 8 else k - 7)
        for user in range(first, 20 + first)
        for k in range(10)
    ]
    for first in (0, 20)
]
FIX = "make it again"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("data"), SHARDS, [20, 20], 40)


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def everything(uri: str) -> list[Any]:
    data = Dataset.open(uri)
    shards = range(len(data.shards))
    return [
        data.items(),
        *(data.users(k) for k in shards),
        *(data.table(k, ["user", "item"]) for k in shards),
        *(data.table(k) for k in shards),
    ]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(a.equals(b) for a, b in zip(one, other, strict=True))


def test_no_flip_of_a_dataset_is_silent(dataset: Dataset) -> None:
    before = everything(dataset.uri)
    files = [path for path in sorted(Path(dataset.uri).rglob("*")) if path.is_file()]
    assert len(files) == 6
    rng = random.Random(1)
    said: list[tuple[Path, str]] = []
    for file in files:
        content = file.read_bytes()
        for _ in range(20):
            flip(file, rng.randrange(8 * len(content)))
            try:
                assert same(everything(dataset.uri), before)
            except DamagedFileError as error:
                said.append((file, str(error)))
            file.write_bytes(content)
    # Of the manifest a blank may become another; of the rest there is no bit without meaning.
    assert len(said) >= 110
    assert all(re.search(rf"{file.name}[^\n]*; prepare the dataset again\.$", sentence) for file, sentence in said)
    assert same(everything(dataset.uri), before)


@pytest.mark.parametrize("columns", [None, ["item"]])
def test_a_file_is_compared_as_a_whole_whatever_is_asked_of_it(dataset: Dataset, columns: list[str] | None) -> None:
    file = Path(dataset.uri, dataset.shards[0].data.path)
    content = file.read_bytes()
    # The first bytes are those of the column user.
    flip(file, 8 * 10)
    with pytest.raises(DamagedFileError, match="differs from its checksum"):
        dataset.table(0, columns)
    file.write_bytes(content)
    dataset.table(0, columns)
    # A file that this process has compared is compared again once it has changed.
    flip(file, 8 * 10)
    with pytest.raises(DamagedFileError, match="differs from its checksum"):
        dataset.table(0, columns)
    file.write_bytes(content)


def test_what_was_compared_is_not_compared_again(dataset: Dataset) -> None:
    file = Path(dataset.uri, dataset.shards[1].data.path)
    dataset.table(1)
    content, stat = file.read_bytes(), file.stat()
    with file.open("r+b") as opened:
        opened.seek(10)
        opened.write(bytes([content[10] ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    # Only the pages of the column are read, and those of another are damaged.
    assert dataset.table(1, ["rating"]).num_rows == dataset.shards[1].rows
    file.write_bytes(content)


def test_json_carries_its_checksum(tmp_path: Path) -> None:
    uri = str(tmp_path / "x.json")
    content = {"b": [1, 2.5, None, "ä"], "a": {"c": True}, "t": (1, 2)}
    recorded.write_json(uri, content)
    assert recorded.read_json(uri, FIX) == content | {"t": [1, 2]}
    raw, said = Path(uri).read_bytes(), []
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found, checksum = recorded.parse_json(bytes(flipped), uri, FIX)
            recorded.require_checksum(found, checksum, uri, FIX, version=None)
            assert found == content | {"t": [1, 2]}
        except DamagedFileError as error:
            said.append(str(error))
    assert len(said) > 6 * len(raw)
    assert all(sentence.startswith(uri) and sentence.endswith("; make it again.") for sentence in said)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1e999}',
        b'{"a": 1, "checksum": 5}',
        b"9" * 5000,
    ],
)
def test_what_is_no_recorded_json_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(raw)
    with pytest.raises(DamagedFileError) as refused:
        recorded.read_json(str(file), FIX)
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        recorded.read_json(str(file), FIX)
