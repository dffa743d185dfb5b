"""Folders of tables that keep a log of their files: never read as plain Parquet."""

import json
import sys

import polars as pl
import pyarrow as pa
import pytest
from readers_kit import read_all

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError


def make(folder, log, name="part-0.parquet"):
    (folder / log).parent.mkdir(parents=True)
    (folder / log).write_text(json.dumps({"add": {"path": name}}))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(folder / name)


def plan(path):
    return plan_log(LogOptions(input=[str(path)]))


@pytest.mark.parametrize("given", ["", "part-0.parquet", "*.parquet", "../*/part*"])
def test_a_delta_table_is_never_plain_parquet(tmp_path, monkeypatch, given):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    make(tmp_path / "log", "_delta_log/00000000000000000000.json")
    with pytest.raises(DasError, match=r"log: this is a Delta table, .* `pip install 'distill-at-scale\[delta\]'`"):
        plan(tmp_path / "log" / given)


def test_a_part_of_a_delta_table_is_one_too(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    make(tmp_path / "log", "_delta_log/00000000000000000000.json", "day=a/hour=3/part-0.parquet")
    for given in ("day=a", "day=*/hour=3", "day=a/hour=3/part-0.parquet"):
        with pytest.raises(DasError, match="this is a Delta table"):
            plan(tmp_path / "log" / given)
    # A table among other folders of the input is found as well.
    with pytest.raises(DasError, match="log: this is a Delta table"):
        plan(tmp_path)


@pytest.mark.parametrize(
    ("log", "name", "kind"),
    [
        ("metadata/v1.metadata.json", "data/part-0.parquet", "Iceberg"),
        ("metadata/00000-4d7a.metadata.json", "data/day=a/part-0.parquet", "Iceberg"),
        (".hoodie/hoodie.properties", "day=a/part-0.parquet", "Hudi"),
    ],
)
def test_iceberg_without_its_package_and_hudi_are_refused(tmp_path, monkeypatch, log, name, kind):
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    make(tmp_path / "log", log, name)
    for given in ("", name):
        with pytest.raises(DasError, match=rf"log: this is an? {kind} table, .*spark\.read\.format"):
            plan(tmp_path / "log" / given)


def test_a_plain_folder_asks_for_nothing(tmp_path):
    (tmp_path / "metadata").mkdir()
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(tmp_path / "a.parquet")
    assert plan(tmp_path / "a.parquet")[2].noticed == ()


def test_live_files_of_a_delta_table(tmp_path):
    deltalake = pytest.importorskip("deltalake")
    table = str(tmp_path / "log")
    rows = pl.DataFrame({"user_id": [1, 2, 3], "item_id": [4, 5, 6], "day": ["a", "a", "b c"]})
    deltalake.write_deltalake(table, rows, partition_by=["day"])
    deltalake.write_deltalake(table, rows.with_columns(pl.col("user_id") + 10), mode="append")
    deltalake.DeltaTable(table).delete("user_id in (2, 13)")
    for given, left in {
        "": [(1, 4), (3, 6), (11, 4), (12, 5)],
        "day=a": [(1, 4), (11, 4), (12, 5)],
        "day=*/*": [(1, 4), (3, 6), (11, 4), (12, 5)],
    }.items():
        schema, fragments, estimate = plan(tmp_path / "log" / given)
        assert sorted(read_all(schema, fragments)[0].rows()) == left
        assert "the log of the Delta table does not list it" in str(estimate.noticed[0])
    schema, fragments, _ = plan_log(LogOptions(input=[table], map={"item_id": "day"}))
    assert set(read_all(schema, fragments)[0]["item_id"]) == {"a", "b c"}


def test_a_log_that_cannot_be_read_is_refused(tmp_path):
    pytest.importorskip("deltalake")
    make(tmp_path / "log", "_delta_log/00000000000000000000.json")
    with pytest.raises(DasError, match="the log of the Delta table cannot be read"):
        plan(tmp_path / "log")


def iceberg(tmp_path):
    """A table of two appends, from which a row was deleted, and its folder."""
    pytest.importorskip("pyiceberg", reason="pyiceberg is not installed: pip install -e '.[iceberg]'")
    pytest.importorskip("sqlalchemy", reason="pyiceberg's catalog in memory needs sqlalchemy")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("test", warehouse=str(tmp_path / "lake"))
    catalog.create_namespace("logs")
    rows = pa.table({"user_id": [1, 2, 3], "item_id": [4, 5, 6]})
    table = catalog.create_table("logs.log", schema=rows.schema)
    table.append(rows)
    table.append(pa.table({"user_id": [11, 12], "item_id": [4, 5]}))
    return table, tmp_path / "lake" / "logs" / "log"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_live_files_of_an_iceberg_table(tmp_path):
    table, folder = iceberg(tmp_path)
    table.delete("user_id == 2")
    for given in ("", "data", "data/*.parquet"):
        schema, fragments, estimate = plan(folder / given)
        assert sorted(read_all(schema, fragments)[0].rows()) == [(1, 4), (3, 6), (11, 4), (12, 5)]
        assert "the log of the Iceberg table does not list it" in str(estimate.noticed[0])
    # The newest metadata counts, not those that lie beside it.
    table.overwrite(pa.table({"user_id": [7], "item_id": [8]}))
    schema, fragments, _ = plan(folder)
    assert read_all(schema, fragments)[0].rows() == [(7, 8)]
    for live in (folder / "data").iterdir():
        live.unlink()
    (folder / "data" / "other.parquet").write_bytes(b"PAR1")
    with pytest.raises(DasError, match=r"the Iceberg table's log lists .* which is missing"):
        plan(folder)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_iceberg_tables_that_files_do_not_show_are_refused(tmp_path, monkeypatch):
    table, folder = iceberg(tmp_path)
    from pyiceberg.table import DataScan, FileScanTask

    planned = list(table.scan().plan_files())
    deleted = [FileScanTask(task.file, {task.file}) for task in planned]
    with monkeypatch.context() as patch:
        # The package writes no row-level deletes.
        patch.setattr(DataScan, "plan_files", lambda self: deleted)
        with pytest.raises(DasError, match=r"log: the Iceberg table uses row-level deletes .*spark\.read\.format"):
            plan(folder)
    with table.update_schema() as update:
        update.rename_column("item_id", "product")
    with pytest.raises(DasError, match=r"log: the Iceberg table uses a renamed column \('product'\)"):
        plan(folder)
    newest = max((folder / "metadata").glob("*.metadata.json"))
    newest.with_name(newest.name.replace("-", "-again-", 1)).write_bytes(newest.read_bytes())
    with pytest.raises(DasError, match="has 2 metadata files with the number 3"):
        plan(folder)
    newest.with_name("00009-x.metadata.json").write_text("{}")
    with pytest.raises(DasError, match="the metadata of the Iceberg table cannot be read"):
        plan(folder)
