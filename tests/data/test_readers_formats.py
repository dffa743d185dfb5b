"""Every format, packed and plain, named and recognised, gives the rows that were written."""

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from readers_kit import read_log

from distill_at_scale.data import storage
from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError

ROWS = [(1, 10, 5.0, 881250949), (1, 11, 3.5, 881250950), (2, 10, 1.0, 881250951)]
NAMES = ["user_id", "item_id", "rating", "timestamp"]
GOOD = [(u, i, r, t * 1000) for u, i, r, t in ROWS]


def lines(separator, header=True, rows=ROWS):
    return "".join(separator.join(map(str, row)) + "\n" for row in ([NAMES] if header else []) + list(rows))


def jsonl(rows=ROWS):
    return "".join(json.dumps(dict(zip(NAMES, row))) + "\n" for row in rows)


TEXTS = {
    "log.csv": lines(","),
    "log.tsv": lines("\t"),
    "semicolon.csv": lines(";"),
    "pipe.txt": lines("|"),
    "blank.txt": lines(" "),
    "log.jsonl": jsonl(),
    "log.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + lines("\t", header=False),
    "ratings.dat": lines("::", header=False),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_text_formats_are_recognised(tmp_path, name, packing):
    path = tmp_path / (name + packing)
    content = TEXTS[name].encode()
    if packing == ".gz":
        content = gzip.compress(content)
    elif packing == ".zst":
        content = pa.compress(content, "zstd", asbytes=True)
    path.write_bytes(content)
    good, bad = read_log(path)
    assert good.schema == {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    assert good.rows() == GOOD
    assert bad.height == 0


def test_packing_is_told_by_content_not_by_name(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(lines(",").encode()) + gzip.compress(lines(",", header=False).encode()))
    assert read_log(path)[0].rows() == GOOD * 2  # gzip files may be strung together


def test_parquet(tmp_path):
    pl.DataFrame(ROWS, schema=NAMES, orient="row").write_parquet(tmp_path / "log.parquet")
    good, bad = read_log(tmp_path / "log.parquet")
    assert good.rows() == GOOD
    assert bad.height == 0
    schema, fragments, estimate = plan_log(LogOptions(input=[str(tmp_path / "log.parquet")]))
    assert (estimate.rows, estimate.exact, estimate.files, estimate.skipped) == (3, True, 1, ())
    assert schema.has_rating
    assert schema.has_timestamp
    assert not schema.has_split
    assert fragments[0].rows == 3


def test_parquet_types_of_every_kind(tmp_path):
    moment = datetime(2020, 1, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "user_id": pa.array(["b", "a", "b"]).dictionary_encode(),
            "item_id": pa.array([b"x", "é".encode(), b"z"], pa.binary()),
            "rating": pa.array([1, 2, 3], pa.float16()),
            "timestamp": pa.array([moment] * 3, pa.timestamp("s", tz="Asia/Tokyo")),
            "title": pa.array(["never read"] * 3),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    good, _ = read_log(tmp_path / "log.parquet")
    ms = int(moment.timestamp()) * 1000
    assert good.rows() == [("b", "x", 1.0, ms), ("a", "é", 2.0, ms), ("b", "z", 3.0, ms)]


def test_sequences(tmp_path):
    path = tmp_path / "beauty.txt"
    path.write_text("1 10 11 12\n2 10  13 \n\n7\n3 10\n")
    good, bad = read_log(path)
    assert good.rows() == [(1, 10, 0), (1, 11, 1), (1, 12, 2), (2, 10, 0), (2, 13, 1), (3, 10, 0)]
    assert bad.height == 0
    same = tmp_path / "same_width.txt"
    same.write_text("1 10 11\n2 10 13\n")
    assert read_log(same, format="sequences")[0].height == 4


def test_a_first_line_longer_than_the_usual_head(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"review": "x" * 200_000, "user": 1, "item": 2}) + "\n" + '{"user": 3, "item": 4}\n')
    assert read_log(path)[0].rows() == [(1, 2), (3, 4)]


def test_ten_megabytes_of_one_user(tmp_path):
    path = tmp_path / "one.txt"
    n = 1_500_000
    path.write_text("u " + " ".join(map(str, range(1_000_000, 1_000_000 + n))) + "\n")
    good, bad = read_log(path, format="sequences")
    assert (good.height, bad.height) == (n, 0)
    assert good["timestamp"].to_list() == list(range(n))
    csv = tmp_path / "one.csv"
    csv.write_text("user_id,item_id\n" + "".join(f"u,{i}\n" for i in range(1_000_000, 1_000_000 + n)))
    assert read_log(csv)[0].n_unique() == n


def test_files_without_a_header(tmp_path):
    path = tmp_path / "u.data"
    path.write_text(lines("\t", header=False))
    assert read_log(path, columns=NAMES)[0].rows() == GOOD
    with pytest.raises(DasError, match=r"first line looks like data.*--columns user_id item_id rating timestamp"):
        read_log(path)
    with pytest.raises(DasError, match=r"the lines have 4 fields .* for 2 column names"):
        read_log(path, columns=["user_id", "item_id"])


def test_a_delimiter_can_be_given(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(lines("$"))
    assert read_log(path, delimiter="$")[0].rows() == GOOD
    with pytest.raises(DasError, match=r"cannot detect the delimiter .*--delimiter"):
        read_log(path)


def test_quotes_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "log.csv"
    rows = ['"1","a,b",5,1500000010,"two\r\nlines"', '2,"say ""hi""",4,1500000011,x', "x", "3,c,3,1500000012,y"]
    path.write_bytes(("\ufeffuser,item,rating,ts,title\r\n" + "\r\n".join(rows)).encode())
    good, bad = read_log(path)
    assert good.drop("timestamp").rows() == [(1, "a,b", 5.0), (2, 'say "hi"', 4.0), (3, "c", 3.0)]
    assert good["timestamp"].to_list() == [1_500_000_010_000, 1_500_000_011_000, 1_500_000_012_000]
    assert bad.select("reason", "row", "line").rows() == [("line has 1 field instead of 5", 5, "x")]


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\n\nuser,item\r\n1,2\r\n\r\n3\r\n\n4,\n5,6\n\n")
    good, bad = read_log(path)
    assert good.rows() == [(1, 2), (5, 6)]
    assert sorted(bad.select("row", "reason").rows()) == [
        (6, "line has 1 field instead of 2"),
        (8, "item_id is missing"),
    ]


def test_columns_are_found_by_well_known_names_and_by_map(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,2,3,1500000000\n")
    assert read_log(path)[0].rows() == [(1, 2, 3.0, 1_500_000_000_000)]
    path.write_text("visitorid,asin,overall,unixReviewTime\n1,B0,3,1500000000\n")
    assert read_log(path)[0].rows() == [(1, "B0", 3.0, 1_500_000_000_000)]
    path.write_text("who,what,user,rating\n1,2,3,4\n")
    good, _ = read_log(path, map={"user_id": "who", "item_id": "what", "rating": ""})
    assert good.rows() == [(1, 2)]
    assert good.columns == ["user_id", "item_id"]


def test_column_order_may_differ_between_files(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,title\n1,2,x\n")
    (tmp_path / "b.csv").write_text("item,user\n4,3\n")
    pl.DataFrame({"item": [6], "user": [5]}).write_parquet(tmp_path / "c.parquet")
    assert read_log(tmp_path)[0].rows() == [(1, 2), (3, 4), (5, 6)]


def test_folders_globs_and_many_inputs(tmp_path):
    for day in ("01", "02"):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        (folder / "part.csv").write_text(f"user,item\n{day[1]},7\n")
        (folder / "_SUCCESS").write_text("")
        (folder / ".part.csv.crc").write_bytes(b"\x00crc")
    both = [(1, 7), (2, 7)]
    assert read_log(tmp_path)[0].rows() == both
    assert read_log(tmp_path / "day=*" / "*.csv")[0].rows() == both
    assert read_log(tmp_path / "day=*")[0].rows() == both
    assert read_log(tmp_path / "day=02", tmp_path / "day=01" / "part.csv")[0].rows() == both[::-1]
    assert read_log(tmp_path / "day=01", tmp_path / "**" / "*.csv")[0].rows() == both  # named twice, read once


def test_relative_and_home_paths(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("log.csv", "./log.csv", "~/log.csv", f"file://{tmp_path}/log.csv"):
        assert read_log(name)[0].height == 1


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [("7", "8", pl.Int64), ("7", "007", pl.String), ("7", "+7", pl.String), ("7", " 7", pl.String),
     ("7", "a", pl.String), ("7", "-3", pl.Int64), ("7", str(2**63), pl.String)],
)  # fmt: skip
def test_ids_are_integers_where_all_heads_write_them_so(tmp_path, first, second, dtype):
    (tmp_path / "a.csv").write_text(f"user,item\n{first},1\n")
    (tmp_path / "b.csv").write_text(f"user,item\n{second},1\n")
    good, bad = read_log(tmp_path)
    assert good["user_id"].to_list() == ([int(first), int(second)] if dtype == pl.Int64 else [first, second])
    assert good["user_id"].dtype == dtype
    assert bad.height == 0
    assert read_log(tmp_path, id_type="string")[0]["user_id"].to_list() == [first, second]


def test_json_ids_that_mix_integers_and_strings_are_strings(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"user": 1, "item": "a"}\n{"user": "b", "item": "c"}\n{"user": 2.0, "item": 5}\n')
    good, bad = read_log(path)
    assert good.rows() == [("1", "a"), ("b", "c"), ("2", "5")]
    assert bad.height == 0


def test_json_numbers_may_be_read_as_text_and_the_reverse(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"user": 1, "item": "7", "rating": "4.5", "time": "1500000000"}\n{"user": 2, "item": "8", "rating": 3}\n'
    )
    good, bad = read_log(path, id_type="string", map={"timestamp": ""})
    assert good.rows() == [("1", "7", 4.5), ("2", "8", 3.0)]
    good, bad = read_log(path, id_type="int")
    assert good.rows() == [(1, 7, 4.5, 1_500_000_000_000)]
    assert bad["reason"].to_list() == ["timestamp is missing"]


@pytest.mark.parametrize(
    ("written", "ms"),
    [("881250949", 881250949000), ("881250949.0", 881250949000), ("881250949123", 881250949123),
     ("881250949123456", 881250949123), ("881250949123456789", 881250949123),
     ("1997-12-04", 881193600000), ("1997-12-04 15:55:49", 881250949000), ("1997-12-04T15:55:49Z", 881250949000),
     ("1997-12-04T16:55:49.123+01:00", 881250949123)],
)  # fmt: skip
def test_units_of_time_are_recognised(tmp_path, written, ms):
    (tmp_path / "log.csv").write_text(f"user,item,time\n1,2,{written}\n")
    assert read_log(tmp_path / "log.csv")[0]["timestamp"].to_list() == [ms]
    if "-" not in written:
        number = float(written) if "." in written else int(written)
        (tmp_path / "log.jsonl").write_text(json.dumps({"user": 1, "item": 2, "time": number}) + "\n")
        assert read_log(tmp_path / "log.jsonl")[0]["timestamp"].to_list() == [ms]
        pl.DataFrame({"user": [1], "item": [2], "time": [number]}).write_parquet(tmp_path / "log.parquet")
        assert read_log(tmp_path / "log.parquet")[0]["timestamp"].to_list() == [ms]


def test_the_unit_can_be_given(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,time\n1,2,881250949\n")
    assert read_log(tmp_path / "log.csv", time_unit="ms")[0]["timestamp"].to_list() == [881250949]


def test_split_is_read_on_request(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,split\n1,1,train\n1,2,Validation\n1,3,TEST\n1,4,-1\n1,5,2\n1,6,later\n")
    good, bad = read_log(path, want_split=True)
    assert good["split"].to_list() == [0, 1, 2, -1, 2]
    assert good["split"].dtype == pl.Int8
    assert bad["reason"].to_list() == ["split is none of -1, 0, 1, 2, train, validation, test"]
    assert "split" not in read_log(path)[0].columns
    pl.DataFrame({"user": [1, 1], "item": [1, 2], "split": [0, 2]}).write_parquet(tmp_path / "log.parquet")
    assert read_log(tmp_path / "log.parquet", want_split=True)[0]["split"].to_list() == [0, 2]


def test_unicode(tmp_path):
    path = tmp_path / "журнал.csv"
    path.write_text("пользователь,item\nЁлка,日本\n🎄,é\n", encoding="utf-8")
    good, _ = read_log(path, map={"user_id": "пользователь"})
    assert good.rows() == [("Ёлка", "日本"), ("🎄", "é")]


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_any_storage(tmp_path, name):
    local = tmp_path / name
    if name == "log.parquet":
        pl.DataFrame(ROWS, schema=NAMES, orient="row").write_parquet(local)
    else:
        local.write_bytes(gzip.compress(lines(",").encode()) if name.endswith("gz") else lines(",").encode())
    uri = f"memory://any-storage/{name}"
    storage.write_bytes(uri, local.read_bytes())
    try:
        assert read_log(uri)[0].rows() == GOOD
        assert read_log("memory://any-storage")[0].rows() == GOOD
        assert read_log("memory://any-storage/*.*")[0].rows() == GOOD
    finally:
        fsspec.filesystem("memory").rm("/any-storage", recursive=True)


def shared_data():
    here = os.environ.get("DAS_SHARED_DATA")
    folder = Path(here) if here else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} not found")
    return folder


@pytest.mark.parametrize(
    ("name", "rows"),
    [("ml-100k.inter", 100_000), ("amazon-beauty-5core.txt", 198_502), ("ml-1m.parquet", 1_000_209)],
)
def test_real_logs(name, rows):
    good, bad = read_log(shared_data() / name)
    assert (good.height, bad.height) == (rows, 0)
