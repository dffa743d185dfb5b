"""What a log has and nobody reads, or has twice: it is told, with the option that reads it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from readers_kit import read_log, read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError

NAMES = "user_id,item_id,rating,timestamp"
ROWS = [f"{k % 4},{k},{k % 5 + 1},{1_600_000_000 + k}" for k in range(24)]
LOG = "\n".join([NAMES, *ROWS]) + "\n"


def refusal(*paths: Path) -> str:
    with pytest.raises(DasError) as refused:
        plan_log(LogOptions(input=list(map(str, paths))))
    return str(refused.value)


def with_column(folder: Path, name: str, values: list[str]) -> Path:
    path = folder / "log.csv"
    path.write_text(f"user_id,item_id,{name}\n" + "".join(f"{k % 2},{k},{value}\n" for k, value in enumerate(values)))
    return path


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("InvoiceDate", ["12/1/2010 8:26", "3/4/2011 9:00"], "looks like timestamps, but no timestamp is read (--map"),
        ("bought", ["2020-01-01", "2020-02-01"], "looks like timestamps"),
        ("date_added", ["Sun Jul 30 07:44:10 -0700 2017"] * 2, "looks like timestamps"),
        ("added_at", ["1600000000", "1600000001"], "looks like timestamps"),
        ("date_year", ["2010", "2011"], "looks like parts of a timestamp, but no timestamp is read (join"),
        ("Book-Rating", ["5", "3.5"], "looks like ratings, but no rating is read (--map rating=Book-Rating reads it)"),
        (
            "month",
            ["202005", "202006"],
            "looks like timestamps, but no timestamp is read (--map timestamp=month reads it)",
        ),
        ("timestamp.$date", ["2020-01-01"] * 2, "(--map 'timestamp=timestamp.$date' reads it)"),
        ("price", ["1600000000", "1600000001"], ""),
        ("rating_count", ["5", "6"], ""),
        ("isbn", ["0195153448", "0002005018"], ""),
    ],
)
def test_columns_like_times_and_ratings_are_told(tmp_path: Path, name: str, values: list[str], says: str) -> None:
    path = with_column(tmp_path, name, values)
    good, _, said = read_noticed(path)
    assert good.height == len(values)
    assert says in said if says else "looks like" not in said
    assert "looks like" not in read_noticed(path, map={"timestamp": "", "rating": ""})[2]


def test_ratings_in_floats_and_inside_columns_are_told(tmp_path: Path) -> None:
    ids = {"user_id": [1, 2], "item_id": [3, 4]}
    for values, name in (([1.5, None], "user_rating"), ([{"v": 1.5}, {"v": 2.0}], "rating.v")):
        pq.write_table(pa.table({**ids, name.split(".")[0]: values}), tmp_path / "log.parquet")
        assert (
            f"looks like ratings, but no rating is read (--map rating={name}"
            in read_noticed(tmp_path / "log.parquet")[2]
        )


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("date,hour", "20200101,7", "in 'date' is read, so that the rows of a day tie"),
        ("date,hourmin", "2020-01-01,2359", "looks like the time of day"),
        ("date,start_time", "2020-01-01,10:00:00", "looks like the time of day"),
        ("date,hour", "2020-01-01 10:00,7", ""),
        ("date,time_spent", "20200101,75.5", ""),
    ],
)
def test_a_time_of_day_beside_the_date_is_told(tmp_path: Path, header: str, row: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,{header}\n" + f"1,2,{row}\n" * 3)
    said = read_noticed(path, map={"timestamp": "date"})[2]
    assert says in said if says else "time of day" not in said


def test_files_that_are_named_by_dates_are_told(tmp_path: Path) -> None:
    for k in (1, 2):
        (tmp_path / f"log-2020-01-0{k}.csv").write_text(f"user_id,item_id\n1,{k}\n")
    assert "2 files: named by a date, though no timestamp is read (--order file" in read_noticed(tmp_path)[2]
    assert "named by a date" not in read_noticed(tmp_path, order="file")[2]


def test_typed_times_that_are_not_read_are_told(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "bought": ["2020-01-01", "2020-01-02"]})
    frame.with_columns(pl.col("bought").str.to_date()).write_parquet(tmp_path / "log.parquet")
    assert "1 column: looks like timestamps" in read_noticed(tmp_path / "log.parquet")[2]


@pytest.mark.parametrize(
    ("values", "says", "numbers"),
    [
        (["5 stars", "4 stars", "3.5 stars"], "holds no numbers to read as ratings; keep the number", [5, 4, 3.5]),
        (["80%", "20%", "5%"], "keep the number", [80, 20, 5]),
        (["4/5", "3/5", "1/5"], "keep the number", [4, 3, 1]),
        (['"4,5"', '"3,0"', '"1,5"'], "numbers with a decimal comma; write points", [4.5, 3, 1.5]),
        (["up", "down", "up"], "--event down:0 up:1 --event-column rating", None),
        (["0x4", "0x3", "0x5"], "--event", None),
        (["funny", "funny", "funny"], "name another with --map rating=COLUMN", None),
    ],
)
def test_ratings_in_words_are_refused_before_the_log_is_read(
    tmp_path: Path, values: list[str], says: str, numbers: list[float] | None
) -> None:
    path = with_column(tmp_path, "rating", values)
    message = refusal(path)
    assert says in message
    if numbers is None:
        return
    command = message.split("`")[1].replace("python", sys.executable, 1).replace("'ROWS'", "'made.csv'")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert read_log(tmp_path / "made.csv")[0]["rating"].to_list() == numbers


def test_kinds_of_feedback_can_be_given_numbers(tmp_path: Path) -> None:
    path = with_column(tmp_path, "rating", ["up", "down", "up"])
    good, bad = read_log(path, event=["up:1", "down:0"], event_column="rating")
    assert (good["rating"].to_list(), bad.height) == ([1, 0, 1], 0)


def test_marks_of_missing_ratings_and_times_are_reasons(tmp_path: Path) -> None:
    odd = ["1,5,NULL,1600000000", "1,6,3,NA", r"1,7,\N,1600000000"]
    (tmp_path / "log.csv").write_text(LOG + "\n".join(odd) + "\n")
    _, bad = read_log(tmp_path / "log.csv")
    assert bad["reason"].to_list() == [
        f"{name} is missing (written as NULL, NA or the like)" for name in ("rating", "timestamp", "rating")
    ]


def test_copies_of_tables_and_packed_copies_are_told(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": range(30), "item_id": range(30)})
    for name in ("a.parquet", "a (1).parquet"):
        frame.write_parquet(tmp_path / name)
    pl.DataFrame({"user_id": range(1, 31), "item_id": range(30)}).write_parquet(tmp_path / "b.parquet")
    assert "1 file: with the size and the first lines of another" in read_noticed(tmp_path)[2]
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.csv").write_text(LOG)
    (tmp_path / "text/a.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    assert "1 file: compressed, beside one of the same name" in read_noticed(tmp_path / "text")[2]


def test_parts_of_a_split_that_become_one_log_are_told(tmp_path: Path) -> None:
    for k, name in enumerate(("train", "valid", "test")):
        (tmp_path / f"{name}.csv").write_text("\n".join([NAMES, *ROWS[8 * k : 8 * k + 8]]) + "\n")
    assert "3 files: named as parts of a split" in read_noticed(tmp_path)[2]
    assert "parts of a split" not in read_noticed(tmp_path / "train.csv")[2]


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("split", ["train", "valid", "Test", ""], "'split' looks like a split (train, valid, Test), but is not read"),
        ("Split", ["0", "2"], "(--split column keeps it; rows with other values"),
        ("dataSet", ["training", "dev"], ""),
        ("subset", ["train", "test"], "(--split column with --map split=subset keeps it; "),
        ("subset", ["train", "train"], ""),
        ("fold", ["0", "1"], ""),
        ("split", ["a", "b"], ""),
        ("offset", ["1", "2"], ""),
    ],
)
def test_columns_like_splits_are_told(tmp_path: Path, name: str, values: list[str], says: str) -> None:
    path = with_column(tmp_path, name, values)
    said = read_noticed(path)[2]
    assert says in said if says else "looks like a split" not in said
    pl.read_csv(path, infer_schema=False).write_parquet(table := tmp_path / "log.parquet")
    assert ("looks like a split" in read_noticed(table)[2]) == bool(says)


def test_splits_that_are_read_or_ignored_are_not_told(tmp_path: Path) -> None:
    path = with_column(tmp_path, "split", ["train", "test"] * 4)
    assert "looks like a split" not in read_noticed(path, map={"split": ""})[2]
    _, _, estimate = plan_log(LogOptions(input=[str(path)]), want_split=True)
    assert "looks like a split" not in "".join(map(str, estimate.noticed))
    (tmp_path / "parts/split=train").mkdir(parents=True)
    (tmp_path / "parts/split=train/a.csv").write_text(LOG)
    assert "--split column keeps that split" in read_noticed(tmp_path / "parts")[2]


def test_times_that_have_lost_digits_are_told(tmp_path: Path) -> None:
    with_column(tmp_path, "time", ["1.6E+09", "1.61e9", "1600000000"])
    assert "2 values: among the first times, written with an exponent" in read_noticed(tmp_path)[2]
    table = pa.table({"user_id": [1], "item_id": [2], "time": pa.array([1.6e9], pa.float32())})
    pq.write_table(table, tmp_path / "log.parquet")
    assert "holds times as 32-bit floats" in read_noticed(tmp_path / "log.parquet")[2]


def test_other_tables_beside_a_log_are_named_with_how_to_leave_them(tmp_path: Path) -> None:
    """The error about a table of items says which files can be read; a manifest is passed over aloud."""
    (tmp_path / "ratings.csv").write_text(LOG)
    (tmp_path / "manifest").write_text('{"entries": [{"url": "s3://bucket/part"}]}')
    assert "licence or checksum, or the like" in read_noticed(tmp_path)[2]
    for other, why in (
        ("movieId,title\n1,Toy Story\n", "no column for user_id"),
        ("1,Heat\n2,Jumanji\n", "the first line looks"),
    ):
        (tmp_path / "movies.csv").write_text(other)
        message = refusal(tmp_path)
        assert f"movies.csv: {why}" in message
        assert message.endswith(f"(1 other file can be read: --input {tmp_path}/ratings.csv).")
    (tmp_path / "ratings.csv").unlink()
    assert "not belong to the log" not in refusal(tmp_path)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("14102100", "--time-format %y%m%d%H"),
        ("13092020", "--time-format %d%m%Y"),
        ("12:26:57", "holds times of day without their dates"),
        ("13-SEP-20 12.26.57.000000 PM", '--time-format "%d-%b-%y %I.%M.%S.%f %p"'),
    ],
)
def test_more_times_are_asked_for(tmp_path: Path, written: str, says: str) -> None:
    assert says in refusal(with_column(tmp_path, "time", [written] * 3))


def test_hives_separator_is_seen_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("\n".join(row.replace(",", "\x01a\tb\x01") for row in [NAMES, *ROWS]) + "\n")
    options = LogOptions(input=[str(tmp_path)], columns=list("abcdefg"), map={"user_id": "a", "item_id": "c"})
    estimate = plan_log(options)[2]
    assert estimate.read_as[0].delimiter == "\x01"
    (tmp_path / "log.tsv").write_text(
        "user_id\titem_id\n" + "".join(f"{k}\tarticle number\x00{k}\n" for k in range(99))
    )
    assert "zero bytes" in refusal(tmp_path)
