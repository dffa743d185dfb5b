"""The records of many shards, in a file beside the manifest."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_kit import manifest_of
from edits_kit import edited

from distill_at_scale.data import manifest as manifests
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import Manifest, read_manifest
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.data.shard_records import NAME, ShardRecord, ShardRecords
from distill_at_scale.errors import DamagedFileError, DasError

ROWS = [[(0, 0, 1.0, 0, 0), (0, 1, 1.0, 1, 1)], [(1, 1, 1.0, 0, 0)], [(2, 0, 1.0, 0, 0), (2, 1, 1.0, 1, 2)]]
MANY = 1500


def file_of(path: str) -> FileRecord:
    digest = hashlib.sha256(path.encode()).hexdigest()
    return FileRecord(path=path, bytes=100, sha256=digest, digest=digest)


def many_shards(n: int) -> list[ShardRecord]:
    return [
        ShardRecord(
            data=file_of(f"shards/part-{k:05d}.parquet"),
            users=file_of(f"users/part-{k:05d}.parquet"),
            first_user=2 * k,
            n_users=2,
            rows=5,
            splits={"train": 3, "validation": 1, "test": 1},
        )
        for k in range(n)
    ]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A manifest of three shards whose records are in a file; what the JSON would say of them."""
    content = manifest_of(tmp_path, ROWS, [1, 1, 1], 2)
    monkeypatch.setattr(manifests, "MOST_INLINE", 2)
    Manifest.model_validate(content).write(str(tmp_path))
    return content


def test_records_of_many_shards_are_in_a_file(tmp_path: Path) -> None:
    shards = many_shards(MANY)
    of = {"n_users": 2 * MANY, "n_rows": 5 * MANY, "splits": {"train": 3 * MANY, "validation": MANY, "test": MANY}}
    content = manifest_of(tmp_path, ROWS, [1, 1, 1], 2) | of
    manifest = Manifest.model_validate(content | {"shards": [shard.model_dump() for shard in shards]})
    manifest.write(str(tmp_path))
    assert (tmp_path / "manifest.json").stat().st_size < 4_000
    found = read_manifest(str(tmp_path))
    assert found == manifest.model_copy(update={"version": 3})
    assert found.fingerprint == manifest.fingerprint
    assert list(found.shards) == shards
    assert (found.shards[-1], list(found.shards[7:9]), list(found.shards[::500])) == (
        shards[-1],
        shards[7:9],
        shards[::500],
    )
    assert found.shards.rows.tolist() == [5] * MANY
    assert len({file.path for file in found.files()}) == 2 * MANY + 2


def test_a_task_gets_the_records_without_a_copy() -> None:
    shards, outside = ShardRecords.of(many_shards(MANY)), list[pickle.PickleBuffer]()
    inside = pickle.dumps(shards, protocol=5, buffer_callback=outside.append)
    assert len(inside) < 10_000
    assert pickle.loads(inside, buffers=outside) == shards


def test_few_shards_stay_in_the_json(tmp_path: Path) -> None:
    """Byte for byte as before: the same version, fields and order."""
    content = manifest_of(tmp_path, ROWS, [1, 1, 1], 2)
    Manifest.model_validate(content).write(str(tmp_path))
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert not (tmp_path / NAME).exists()
    assert (stored["version"], stored["shards"]) == (2, content["shards"])
    assert list(stored["shards"][0]) == ["data", "users", "first_user", "n_users", "rows", "splits"]


def test_the_fingerprint_is_that_of_the_checksums(tmp_path: Path, written: dict[str, Any]) -> None:
    digest = hashlib.sha256(written["items"]["sha256"].encode())
    for shard in written["shards"]:
        digest.update(shard["data"]["sha256"].encode() + shard["users"]["sha256"].encode())
    assert read_manifest(str(tmp_path)).fingerprint == digest.hexdigest()[:32]


def test_the_file_is_verified(tmp_path: Path, written: dict[str, Any]) -> None:
    data = Dataset.open(str(tmp_path))
    data.verify()
    assert data.users(2)["user"].to_list() == [2]
    (tmp_path / NAME).unlink()
    with pytest.raises(DamagedFileError, match=r"shards\.parquet is missing; prepare the dataset again"):
        data.verify()
    with pytest.raises(DamagedFileError, match=r"shards\.parquet is missing; prepare the dataset again"):
        Dataset.open(str(tmp_path))


def rewrite(folder: Path, table: pa.Table) -> None:
    """The file of shards, with its right checksum in the manifest, as if a writer had meant it."""
    pq.write_table(table, folder / NAME)
    stored = json.loads((folder / "manifest.json").read_text())
    stored["shards"] = recorded.record_of(NAME, (folder / NAME).read_bytes()).model_dump()
    recorded.write_json(str(folder / "manifest.json"), stored)


def changed(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(at, column, pa.array(values, table.schema.field(at).type))


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("rows", 1, 2, "contradicts itself: shard 1 has 2 rows, but its splits have 1"),
        ("split.test", 2, 2, "contradicts itself: shard 2 has 2 rows, but its splits have 3"),
        ("n_users", 2, 2, "contradicts itself: it states 3 users, but its shards have 4"),
        ("n_users", 0, 0, "a number below 1 in column n_users"),
        ("first_user", 1, 0, "contradicts itself: shard 1 begins with user 0, but the one before it ends before 1"),
        ("data.path", 1, "shards/part-00000.parquet", "itself: shards/part-00000.parquet is listed twice"),
        ("users.path", 0, "items.parquet", "contradicts itself: items.parquet is listed twice"),
        ("data.path", 1, "../x", r"path '\.\./x' leads out of the dataset"),
        ("users.path", 1, "", "path '' leads out of the dataset"),
        ("rows", 1, None, "column rows has gaps"),
    ],
)
def test_what_is_inconsistent_is_refused(
    tmp_path: Path, written: dict[str, Any], column: str, row: int, value: Any, said: str
) -> None:
    table = pq.read_table(tmp_path / NAME)
    rewrite(tmp_path, changed(table, column, row, value))
    with pytest.raises(DamagedFileError, match=said) as refused:
        read_manifest(str(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("column", ["rows", "data.sha256", "users.path"])
def test_a_column_that_is_missing_or_of_another_type(tmp_path: Path, written: dict[str, Any], column: str) -> None:
    table = pq.read_table(tmp_path / NAME)
    for other in (table.drop_columns([column]), table.set_column(0, column, pa.array([True] * 3))):
        rewrite(tmp_path, other)
        with pytest.raises(DamagedFileError, match=r"shards\.parquet is damaged or of another version"):
            read_manifest(str(tmp_path))


@pytest.mark.parametrize("seed", range(20))
def test_no_edit_of_the_json_is_taken(tmp_path: Path, written: dict[str, Any], seed: int) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(edited(json.loads(file.read_text()), random.Random(seed))))
    with pytest.raises(DasError, match=str(tmp_path)) as refused:
        read_manifest(str(tmp_path))
    assert "\n" not in str(refused.value)
