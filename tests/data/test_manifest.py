"""The manifest: what is refused, what is said, and what the fingerprint stands for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import manifest_of

from distill_at_scale.data.manifest import Manifest, read_manifest
from distill_at_scale.errors import DasError

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
    (folder / "manifest.json").write_text(json.dumps(content))


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
        ({"version": 2}, "version: Input should be 1"),
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
    with pytest.raises(DasError, match=r"is no dataset: it has no manifest\.json"):
        read_manifest(str(tmp_path))
    (tmp_path / "_work").mkdir()
    with pytest.raises(DasError, match="is no dataset: a run has not finished there; run the same command again"):
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
