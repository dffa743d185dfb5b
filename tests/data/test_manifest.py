"""The manifest: what is refused, what is said, and what the fingerprint stands for."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import manifest_of
from edits_kit import edited

from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import Manifest, read_manifest
from distill_at_scale.errors import DamagedFileError, DasError

ROWS = [[(0, 0, 1.0, 0, 0), (0, 1, 1.0, 1, 1)], [(1, 1, 1.0, 0, 0)]]
OUTSIDE = [
    "../x",
    "/etc/passwd",
    "s3://bucket/x",
    "file:///etc/passwd",
    "a\\..\\b",
    "a/../b",
    "./a",
    "a//b",
    "",
    "a\0b",
]


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    return manifest_of(tmp_path, ROWS, [1, 1], 2)


def write(folder: Path, content: dict[str, Any]) -> None:
    """With a checksum, as if a writer had meant it."""
    recorded.write_json(str(folder / "manifest.json"), content)


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("where", ["items", "data", "users", "quarantine"])
def test_paths_stay_inside(tmp_path: Path, content: dict[str, Any], path: str, where: str) -> None:
    if where == "items":
        content["items"]["path"] = path
    elif where == "quarantine":
        content["quarantine"] = {"rows": 1, "reasons": {}, "files": [path]}
    else:
        content["shards"][1][where]["path"] = path
    write(tmp_path, content)
    with pytest.raises(DasError, match=r"is damaged or of another version: .*leads out of the dataset") as refused:
        read_manifest(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_round_trip(tmp_path: Path, content: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(content)
    manifest.write(str(tmp_path))
    assert read_manifest(str(tmp_path)) == manifest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 4}, "version: Input should be 1, 2 or 3"),
        ({"format": "other"}, "format: "),
        ({"n_users": "many"}, "n_users: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_other_versions_name_the_field(tmp_path: Path, content: dict[str, Any], change: dict, said: str) -> None:
    write(tmp_path, content | change)
    with pytest.raises(DasError, match=r"manifest\.json is damaged or of another version: " + said):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_no_json(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(damage)
    with pytest.raises(DasError, match=r"manifest\.json is damaged or of another version") as refused:
        read_manifest(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DasError, match="nowhere does not exist"):
        read_manifest(str(tmp_path / "nowhere"))
    with pytest.raises(DasError, match=r"is not a dataset: it has no manifest\.json"):
        read_manifest(str(tmp_path))
    (tmp_path / "_work").mkdir()
    with pytest.raises(DasError, match="is not a dataset: a run has not finished there; run the same command again"):
        read_manifest(str(tmp_path))
    (tmp_path / "log.csv").write_text("user_id,item_id\n")
    with pytest.raises(DasError, match=r"log\.csv"):
        read_manifest(str(tmp_path / "log.csv"))


def test_fingerprint_is_that_of_the_content_alone(content: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(content)
    told_otherwise = Manifest.model_validate(content | {"source": {"inputs": ["x"]}, "made_with": {"polars": "9"}})
    assert told_otherwise.fingerprint == manifest.fingerprint
    changed = []
    for path in (("items",), ("shards", 0, "data"), ("shards", 1, "users")):
        other = copy.deepcopy(content)
        record: Any = other
        for key in path:
            record = record[key]
        record["sha256"] = "0" * 64
        changed.append(Manifest.model_validate(other).fingerprint)
    turned = Manifest.model_validate(content | {"shards": content["shards"][::-1]}).fingerprint
    assert len({manifest.fingerprint, turned, *changed}) == 5


def shard_removed(content: dict[str, Any]) -> None:
    del content["shards"][0]


def shard_listed_twice(content: dict[str, Any]) -> None:
    content["shards"].append(content["shards"][1])


def shards_exchanged(content: dict[str, Any]) -> None:
    content["shards"].reverse()


def rows_added(content: dict[str, Any]) -> None:
    content["n_rows"] += 1


def users_added(content: dict[str, Any]) -> None:
    content["n_users"] += 1


def split_lost(content: dict[str, Any]) -> None:
    del content["splits"]["validation"]


def split_of_a_shard_larger(content: dict[str, Any]) -> None:
    content["shards"][1]["splits"]["train"] += 1


def files_of_two_shards_exchanged(content: dict[str, Any]) -> None:
    one, two = content["shards"]
    one["data"], two["data"] = two["data"], one["data"]


EDITS = (
    (shard_removed, "shard 0 begins with user 1, but the one before it ends before 0"),
    (shard_listed_twice, "shards/part-00001.parquet is listed twice"),
    (shards_exchanged, "shard 0 begins with user 1, but the one before it ends before 0"),
    (rows_added, "it states 4 rows, but its shards have 3"),
    (users_added, "it states 3 users, but its shards have 2"),
    (split_lost, "it states 0 validation rows, but its shards have 1"),
    (split_of_a_shard_larger, "shard 1 has 1 row, but its splits have 2"),
)


@pytest.mark.parametrize(("edit", "problem"), EDITS)
def test_a_manifest_that_contradicts_itself(tmp_path: Path, content: dict[str, Any], edit: Any, problem: str) -> None:
    edit(content)
    write(tmp_path, content)
    with pytest.raises(DamagedFileError) as refused:
        read_manifest(str(tmp_path))
    file = tmp_path / "manifest.json"
    assert str(refused.value) == f"{file} contradicts itself: {problem}; prepare the dataset again."


def test_what_the_files_contradict_is_found_when_they_are_read(tmp_path: Path, content: dict[str, Any]) -> None:
    files_of_two_shards_exchanged(content)
    write(tmp_path, content)
    with pytest.raises(DamagedFileError, match=r"part-00001\.parquet has 1 row, but its manifest says 2; prepare"):
        Dataset.open(str(tmp_path)).table(0)
    content["n_items"] += 1
    write(tmp_path, content)
    with pytest.raises(DamagedFileError, match=r"items\.parquet has 2 rows, but its manifest says 3; prepare"):
        Dataset.open(str(tmp_path)).items()


@pytest.mark.parametrize("seed", range(50))
def test_no_edit_is_taken(tmp_path: Path, content: dict[str, Any], seed: int) -> None:
    Manifest.model_validate(content).write(str(tmp_path))
    file = tmp_path / "manifest.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps(edited(written, random.Random(seed))))
    with pytest.raises(DasError, match=str(tmp_path)) as refused:
        read_manifest(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_manifest_of_the_first_version_has_no_checksum(tmp_path: Path, content: dict[str, Any]) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(content | {"version": 1}))
    assert read_manifest(str(tmp_path)).n_users == 2
    file.write_text(json.dumps(content | {"version": 1, "n_users": 3}))
    with pytest.raises(DamagedFileError, match="contradicts itself"):
        read_manifest(str(tmp_path))
    file.write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(DamagedFileError, match=r"manifest\.json has no checksum; prepare the dataset again\."):
        read_manifest(str(tmp_path))
