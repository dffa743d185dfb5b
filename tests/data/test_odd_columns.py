"""Columns as they come: in the names of folders, of odd types, of other types in some parts, of kinds of events."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from readers_kit import read_log, read_noticed

from distill_at_scale.errors import DasError


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_columns_in_the_names_of_folders(tmp_path, name):
    for day in (1, 2):
        folder = tmp_path / f"dt=2026-01-0{day}" / "kind=a%20b"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"user_id": [day], "item_id": [9]})
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[name.split(".")[1]](
            folder / name
        )
    good, _, noticed = read_noticed(tmp_path)
    assert good.rows() == [(1, 9), (2, 9)]
    assert "the names of the folders hold the column 'dt', which is not read" in noticed
    good, _, noticed = read_noticed(tmp_path, map={"timestamp": "dt"})
    days = [1_767_225_600_000, 1_767_312_000_000]
    assert good.rows() == [(1, 9, days[0]), (2, 9, days[1])]
    assert "'dt'" not in noticed
    assert "'kind'" in noticed
    good, _, _ = read_noticed(tmp_path, map={"item_id": "kind"})
    assert good["item_id"].to_list() == ["a b", "a b"]
    with pytest.raises(DasError, match="in its folders' names, dt, kind"):
        read_log(tmp_path, map={"rating": "x"})


def test_a_file_is_believed_before_its_folder(tmp_path):
    (tmp_path / "user_id=3").mkdir()
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(tmp_path / "user_id=3" / "a.parquet")
    good, _, noticed = read_noticed(tmp_path)
    assert good.rows() == [(1, 2)]
    assert "the column 'user_id': the file and the name of its folder" in noticed
    (tmp_path / "user_id=3").rename(tmp_path / "user_id=1")
    assert read_noticed(tmp_path)[2] == ""


def test_binary_ids_become_hexadecimal(tmp_path):
    ids = [bytes([k]) * 15 + b"\xff" for k in range(4)]
    for dtype in (pa.binary(16), pa.binary(), pa.uuid()):
        column = pa.array(ids, pa.binary(16) if dtype == pa.uuid() else dtype)
        if dtype == pa.uuid():
            column = pa.ExtensionArray.from_storage(dtype, column)
        pq.write_table(pa.table({"user_id": column, "item_id": range(4)}), tmp_path / "a.parquet")
        good, _, noticed = read_noticed(tmp_path)
        assert good["user_id"].to_list() == [key.hex() for key in ids]
        assert "user_id holds bytes that are not text; its ids are read as hexadecimal digits" in noticed


def test_bytes_that_are_text_in_one_part_only_are_hexadecimal_in_all(tmp_path):
    for name, key in {"a": b"abcd", "b": b"\xff\xfe\xfd\xfc"}.items():
        pq.write_table(
            pa.table({"user_id": pa.array([key], pa.binary()), "item_id": [1]}), tmp_path / f"{name}.parquet"
        )
    assert read_log(tmp_path)[0]["user_id"].to_list() == ["61626364", "fffefdfc"]


def test_a_part_whose_column_is_null_is_named(tmp_path):
    pq.write_table(pa.table({"user_id": [1], "item_id": [1], "rating": [5.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "rating": pa.nulls(1)}), tmp_path / "b.parquet")
    good, bad, noticed = read_noticed(tmp_path)
    assert (good.height, bad.height) == (1, 1)
    assert "column 'rating' holds only nulls" in noticed
    assert "b.parquet" in noticed
    assert "--map rating= leaves it out" in noticed
    assert read_log(tmp_path, map={"rating": ""})[0].height == 2


def test_ratings_of_yes_and_no_are_events(tmp_path):
    table = pa.table({"user_id": [1, 2], "item_id": [1, 2], "rating": [True, False]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DasError, match="--event false:0 true:1 --event-column rating, or ignore it with --map rating="):
        read_log(tmp_path)
    good, bad = read_log(tmp_path, event=["false:0", "true:1"], event_column="rating")
    assert good["rating"].to_list() == [1, 0]
    assert bad.is_empty()


def test_parts_with_other_types_are_named(tmp_path):
    pq.write_table(pa.table({"user_id": [1], "item_id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [3]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": ["2"]}), tmp_path / "c.parquet")
    good, _, noticed = read_noticed(tmp_path)
    assert good["item_id"].to_list() == ["1", "3", "2"]
    assert "column 'item_id' has the type string here and int64 in most files" in noticed
    assert "c.parquet" in noticed


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_kinds_of_events_that_are_not_read_are_noticed(tmp_path, ending):
    kinds = ["view"] * 5 + ["cart", "purchase"]
    frame = pl.DataFrame({"user_id": range(7), "item_id": range(7), "event_type": kinds})
    path = tmp_path / f"log.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    noticed = read_noticed(path)[2]
    assert "column 'event_type' tells kinds of events apart (view, cart, purchase), but is not read" in noticed
    frame = frame.with_columns(event_type=pl.lit("view"))
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    assert read_noticed(path)[2] == ""
