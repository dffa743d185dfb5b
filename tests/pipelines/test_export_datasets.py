"""A dataset and a sample as plain logs: read back by independent readers, and by prepare, they are the same rows."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

import distill_at_scale as das
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import Manifest
from distill_at_scale.errors import DasError, OutputExistsError, SettingError
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import manifest_of, write_parquet

USERS = ["007", "a,b", 'c"d', "=1+1", "é", "+5", "x y", "1"]
ITEMS = [2**63 - 1, 2**53 + 1, -(2**63), 0, 5]
FORMATS = ("parquet", "csv", "recbole", "hf")
COLUMNS = ["user_id", "item_id", "rating", "timestamp", "split"]
BENCHMARK = {"train": "train", "validation": "valid", "test": "test"}


def make(folder: Path, parent: bool = False, item_ids: list[Any] | None = None, **fields: Any) -> Dataset:
    """Two shards of users with awkward ids, and items whose ids need all 64 bits."""
    shards: list[list[Any]] = [
        [(u, i, 0.1 * (u + i), 10 * u + i + 2**40, max(0, i - 2)) for u in users for i in range(5)]
        for users in ((0, 1, 2), (3, 4, 5, 6, 7))
    ]
    if parent:
        # The last user of the sample has no train row.
        shards[1] = [row for row in shards[1] if row[0] != 7 or row[4]]
        fields["parent"] = {"uri": "x", "fingerprint": "y"}
        fields["config"] = {"sampler": "random", "budget": 0.5}
    found = manifest_of(folder, shards, [3, 5], 5, **fields)
    items = pl.read_parquet(folder / "items.parquet").with_columns(pl.Series("item_id", item_ids or ITEMS))
    found["items"] = write_parquet(str(folder), "items.parquet", items.to_arrow()).model_dump()
    found["id_types"] = {"user_id": "string", "item_id": "string" if item_ids else "int64"}
    for record in found["shards"]:
        table = pl.read_parquet(folder / record["users"]["path"])
        ids = [USERS[user] for user in table["user"]]
        table = table.with_columns(pl.Series("user_id", ids))
        record["users"] = write_parquet(str(folder), record["users"]["path"], table.to_arrow()).model_dump()
    Manifest.model_validate(found).write(str(folder))
    return Dataset.open(str(folder))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("export") / "prepared")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("export") / "sample", parent=True)


def read(kind: str, folder: str) -> list[tuple[Any, ...]]:
    """Rows (user_id, item_id, rating, timestamp, split), read without Polars, sorted."""
    rows: list[tuple[Any, ...]] = []
    if kind == "parquet":
        for file in sorted(Path(folder, "interactions").iterdir()):
            table = pq.read_table(file)
            assert table.column_names == COLUMNS
            rows += zip(*(column.to_pylist() for column in table.columns))
    elif kind == "hf":
        for file in sorted(Path(folder, "data").iterdir()):
            table = pq.read_table(file)
            assert table.column_names == COLUMNS[:4]
            split = file.name.partition("-")[0]
            rows += [(*row, split) for row in zip(*(column.to_pylist() for column in table.columns))]
    elif kind == "csv":
        for file in sorted(Path(folder, "interactions").iterdir()):
            with open(file, newline="") as lines:
                reader = csv.reader(lines)
                assert next(reader) == COLUMNS
                rows += [(u, int(i), float(r), int(t), s) for u, i, r, t, s in reader]
    else:
        for split, name in BENCHMARK.items():
            file = Path(folder, f"{Path(folder).name}.{name}.inter")
            if file.exists():
                header, *lines = file.read_text().splitlines()
                assert header.split("\t") == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
                for line in lines:
                    u, i, r, t = line.split("\t")
                    rows.append((u, int(i), float(r), int(t), split))
    # Ratings are float32, which text writes as short as it can.
    return sorted((u, i, round(r, 5), t, s) for u, i, r, t, s in rows)


def expected(dataset: Dataset, *splits: str) -> list[tuple[Any, ...]]:
    return sorted((u, i, round(r, 5), t, s) for u, i, r, t, s in dataset.to_frame(*splits).rows())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_row_comes_back_with_its_own_ids(kind: str, dataset: Dataset, tmp_path: Path, ray_session: None) -> None:
    found = das.export(dataset, format=kind, output=str(tmp_path / "log"))
    assert read(kind, found.uri) == expected(dataset)
    assert (found.rows, found.users, found.items) == (40, 8, 5)
    assert found.splits == {"train": 24, "validation": 8, "test": 8}
    manifest = recorded.read_json(f"{found.uri}/export.json", "")
    written = {str(path.relative_to(found.uri)) for path in Path(found.uri).rglob("*") if path.is_file()}
    assert written == {*(file["path"] for file in manifest["files"]), "run.json", "export.json"}
    for file in manifest["files"]:
        content = Path(found.uri, file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert (len(manifest["files"]), found.files) == (
        {"parquet": 2, "csv": 2, "recbole": 3, "hf": 2 * 3 + 2}[kind],
        len(manifest["files"]),
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_prepare_takes_the_whole_folder_back(kind: str, dataset: Dataset, tmp_path: Path, ray_session: None) -> None:
    found = das.export(dataset, format=kind, output=str(tmp_path / "log"))
    has_column = kind in ("parquet", "csv")
    split = "column" if has_column else "20_percent_hist"
    again = das.prepare(input=[found.uri], output=str(tmp_path / "again"), split=split, time_unit="ms")
    n = 5 if has_column else 4
    assert sorted(row[:n] for row in expected(again)) == sorted(row[:n] for row in expected(dataset))
    said = {notice.what: notice.count for notice in again.manifest.noticed}
    assert said["skipped: it describes what a verb such as `das export` wrote, and has no rows"] == 2 + (kind == "hf")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sample_is_its_train_rows(kind: str, sample: Dataset, tmp_path: Path, ray_session: None) -> None:
    found = das.export(sample, format=kind, output=str(tmp_path / "log"))
    assert read(kind, found.uri) == expected(sample, "train")
    assert (found.rows, found.users, found.splits) == (21, 7, {"train": 21})
    whole = das.export(sample, format=kind, splits="train,test", output=str(tmp_path / "more"))
    assert read(kind, whole.uri) == expected(sample, "train", "test")
    assert whole.users == 8


def test_formulas_in_ids_of_users_and_items(tmp_path: Path, ray_session: None) -> None:
    made = make(tmp_path / "data", item_ids=["-1", "b", "c", "d", "@e"])
    plain = das.export(made, format="csv", output=str(tmp_path / "plain"))
    assert plain.escaped == 0
    found = das.export(made, format="csv", output=str(tmp_path / "log"), escape_formulas=True)
    with open(Path(found.uri, "interactions", "part-00001.csv"), newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["user_id"] for row in rows} == {"'=1+1", "é", "'+5", "x y", "1"}
    assert {row["item_id"] for row in rows} == {"'-1", "b", "c", "d", "'@e"}
    assert found.escaped == 4


def test_the_card_and_the_croissant(dataset: Dataset, tmp_path: Path, ray_session: None) -> None:
    found = das.export(dataset, format="hf", output=str(tmp_path / "my-log"))
    _, header, body = Path(found.uri, "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(header)
    (config,) = head["configs"]
    for part in config["data_files"]:
        files = sorted(Path(found.uri).glob(part["path"]))
        assert sum(pq.read_metadata(file).num_rows for file in files) == found.splits[part["split"]]
    assert body.startswith("\n# my-log\n\nInteractions of 8 users with 5 items in 40 rows.\n")
    assert "## Licence" in body
    assert "can identify people" in body
    about = json.loads(Path(found.uri, "croissant.json").read_text())
    objects = [one for one in about["distribution"] if one["@type"] == "cr:FileObject"]
    for one in objects:
        content = Path(found.uri, one["contentUrl"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == f"{len(content)} B"
    assert {one["@id"] for one in objects} == {f"data/{path.name}" for path in Path(found.uri, "data").iterdir()}
    sets = {one["@id"]: one["includes"] for one in about["distribution"] if one["@type"] == "cr:FileSet"}
    for record in about["recordSet"]:
        for field in record["field"]:
            (file, *_) = sorted(Path(found.uri).glob(sets[field["source"]["fileSet"]["@id"]]))
            kind = str(pq.read_schema(file).field(field["source"]["extract"]["column"]).type)
            assert {"large_string": "sc:Text", "int64": "sc:Integer", "float": "sc:Float"}[kind] == field["dataType"]
        assert [field["name"] for field in record["field"]] == COLUMNS[:4]


def test_a_killed_run_keeps_its_files(
    dataset: Dataset, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "log")
    with monkeypatch.context() as patch:
        patch.setattr(PartsOutput, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            das.export(dataset, output=output)
    before = {path: path.stat().st_mtime_ns for path in Path(output, "interactions").iterdir()}
    found = das.export(dataset, output=output)
    assert {path: path.stat().st_mtime_ns for path in Path(output, "interactions").iterdir()} == before
    assert recorded.read_json(f"{output}/run.json", "")["reused_parts"] == 2
    with pytest.raises(OutputExistsError, match="holds an export already"):
        das.export(dataset, output=output)
    das.export(dataset, format="csv", output=output, overwrite=True)
    assert {path.suffix for path in Path(output, "interactions").iterdir()} == {".csv"}
    assert found.rows == 40


def test_what_cannot_be_exported(dataset: Dataset, tmp_path: Path, ray_session: None) -> None:
    output = str(tmp_path / "log")
    with pytest.raises(DasError, match="does not exist"):
        das.export("/nowhere", output=output)
    for wrong in ({"how": "sample"}, {"seed": 1}):
        with pytest.raises(SettingError, match=r"is of synthetic data, .* not of a log's rows; leave it out"):
            das.export(dataset, output=output, **wrong)
    rows = [[(0, 0, 1.0, 2**53 + 2, 0)]]
    from dataset_kit import write_dataset

    late = write_dataset(tmp_path / "late", rows, [1], 1)
    with pytest.raises(DasError, match=r"times as floats, which would lose digits of a time beyond 2\^53"):
        das.export(late, format="recbole", output=output)
    with pytest.raises(SettingError, match="has no test rows; leave it out of --splits"):
        das.export(late, splits=["test"], output=output)
