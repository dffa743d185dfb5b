"""Logs as well-known datasets are published, without a header: what is suggested reads them, or nothing is guessed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from readers_kit import read_log, read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError

USERS = [10423, 10423, 20871, 20871, 31990, 31990]


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(DasError, match="looks like data") as error:
        read_log(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        # Foursquare: an offset from UTC is not a rating.
        ("{u}\t4a{k}c\tTue Apr 03 18:0{k}:09 +0000 2012\t-240", "user_id item_id timestamp column4"),
        # Twitch: numbers of streams are not times.
        ("{u},3384286574{k},streamer{k},{k}01", "user_id item_id column3 column4"),
        ("{u}\ti{k}\t1{k}/Feb/2010:06:00:00 +0000", "user_id item_id timestamp"),
        ("{u}\ti{k}\t{k}\tMay 0{k}, 2012", "user_id item_id rating timestamp"),
        # Gowalla with both coordinates in one field: the comma stands in all lines, and once in each.
        ("{u}\ti{k}\t30.2{k},-97.7\t2010-10-1{k}T23:55:27Z", "user_id item_id column3 timestamp"),
        # A spreadsheet with decimal commas.
        ("{u};i{k};{k},5;0{k}.08.2012 07:27", "user_id item_id column3 timestamp"),
        ("{u}|i{k}|{k}|Feb 0{k}, 2007", "user_id item_id rating timestamp"),
        ("{u},i{k},{k},134836788{k}", "user_id item_id rating timestamp"),
        ("{u}\ti{k}\t{k}\t63747648000000000{k}", "user_id item_id rating timestamp"),
    ],
)
def test_the_columns_that_are_suggested(tmp_path: Path, line: str, columns: str) -> None:
    path = tmp_path / "log.txt"
    said = refusal(path, "".join(line.format(u=user, k=k + 1) + "\n" for k, user in enumerate(USERS)))
    assert re.search(r"--columns ([a-z0-9_ ]+) \(check", said)[1] == columns  # type: ignore[index]
    # The suggestion is followed, without the columns that need more to be read.
    good, bad = read_log(path, columns=columns.split(), map={"timestamp": "", "rating": ""})
    assert (good["user_id"].to_list(), bad.height) == (USERS, 0)


def test_a_delimiter_is_chosen_by_the_number_of_names(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"{user},{k}|a|b\n" for k, user in enumerate(USERS)))
    assert read_log(path, columns=["user_id", "item_id"])[0]["item_id"].to_list() == [f"{k}|a|b" for k in range(6)]
    path.write_text("".join(f"{user}|{k}|x,y\n" for k, user in enumerate(USERS)))
    good, _ = read_log(path, columns=["user_id", "item_id", "note"])
    assert good["item_id"].to_list() == list(range(6))


def test_files_beside_a_published_log(tmp_path: Path) -> None:
    rows = "".join(f"{user},{k},5\n" for k, user in enumerate(USERS))
    for name, text in {
        "book_tags.csv": "goodreads_book_id,tag_id,count\n1,2,3\n",
        "books.csv": "id,book_id,title\n1,2,x\n",
        "dataset-README.txt": "SUMMARY\n\nThis dataset was collected.\n",
        "mbox_sha1sum.py": "import hashlib\n\nprint(1)\n",
        "ratings.csv": f"user_id,book_id,rating\n{rows}",
    }.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DasError, match=r"book_tags\.csv: .*2 other files can be read: --input \S+/ratings\.csv"):
        read_log(tmp_path)
    for name in ("books.csv", "book_tags.csv"):
        (tmp_path / name).unlink()
    good, _, said = read_noticed(tmp_path)
    assert good.height == len(USERS)
    assert "2 files: skipped: the name is that of a description" in said


def test_files_that_fail_for_reasons_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("".join(f"{user}\t{k}\t5\n" for k, user in enumerate(USERS)))
    (tmp_path / "u.genre").write_text("unknown|0\nAction|1\nAdventure|2\n")
    with pytest.raises(DasError, match=r"u\.data: .*give only those that do \(of 2 files\)"):
        read_log(tmp_path)
    (tmp_path / "u.genre").write_text((tmp_path / "u.data").read_text())
    with pytest.raises(DasError, match=r"\(check which is which\)\.$"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("user_id,anime_id,rating", r"no column for item_id; .*item_id=COLUMN \(perhaps anime_id\)"),
        ("session,aid,ts", r"no column for user_id and item_id; .*=COLUMN item_id=COLUMN \(perhaps session, aid\)"),
        ("User-ID,ISBN,Book-Rating", r"\(perhaps ISBN\)"),
        ("review_id,user_id,business_id", r"\(perhaps business_id\)"),
        ("t.user_id,t.item_id,t.n", r"names no column .*\(perhaps t\.user_id, t\.item_id\)"),
    ],
)
def test_columns_that_may_be_the_missing_ids_are_named(tmp_path: Path, header: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(header + "\n" + "".join(f"{user},x{k},{k}\n" for k, user in enumerate(USERS)))
    with pytest.raises(DasError, match=says) as error:
        read_log(path)
    first, second = (re.findall(r"perhaps ([^)]*)", str(error.value))[0].split(", ") * 2)[:2]
    columns = {"item_id": second} if "for item_id" in str(error.value) else {"user_id": first, "item_id": second}
    assert read_log(path, map={**columns, "timestamp": ""})[0].height == len(USERS)


def test_names_in_quotes_after_blanks(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('"user_id", "artistname", "item_id"\n' + "".join(f'"{u}","a","{k}"\n' for k, u in enumerate(USERS)))
    good, bad = read_log(path)
    assert (good["user_id"].to_list(), bad.height) == (USERS, 0)


def test_lists_of_hashes_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "user_data.txt"
    items = ["3ab8;c0ffee12", "5d7f0e31;0011aabb;deadbee1", "5d7f0e31;90abcdef"]
    path.write_text("".join(f"9f86d08{k}1,{items[k % 3]}\n" for k in range(9)))
    with pytest.raises(DasError, match="the column 'item_id' holds lists"):
        read_log(path, columns=["user_id", "item_id"])


def test_ratings_named_rate_and_in_single_quotes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user;item;rate\n" + "".join(f"{user};{k};5\n" for k, user in enumerate(USERS)))
    assert "--map rating=rate reads it" in read_noticed(path)[2]
    path.write_text("'user','item','rating'\n" + "".join(f"'{user}','{k}','5'\n" for k, user in enumerate(USERS)))
    with pytest.raises(DasError, match=r"""values in single quotes; remove them with `tr -d "'" < FILE > ROWS`"""):
        read_log(path)


def test_numbers_in_numpy_archives(tmp_path: Path) -> None:
    """The commands for a sparse matrix, and for an array of several columns, make logs."""
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_matrix(([3.0, 4.5], ([0, 1], [100_000_123, 7])))
    sparse.save_npz(tmp_path / "R.npz", matrix)
    np.savez(tmp_path / "pairs.npz", np.array([[1, 2], [3, 4], [5, 6]]))
    for name, made, columns, mapped in (
        ("R.npz", "R.csv", ["user_id", "item_id", "rating"], {}),
        ("pairs.npz", "pairs.parquet", None, {"user_id": "column_0", "item_id": "column_1"}),
    ):
        with pytest.raises(DasError, match=r"\(\.npz\)") as refused:
            read_log(tmp_path / name)
        command = str(refused.value).split("`")[1].replace("python -c", f"{sys.executable} -c")
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        good, _ = read_log(tmp_path / made, columns=columns, map=mapped)
        expected = [(0, 100_000_123, 3.0), (1, 7, 4.5)] if columns else [(1, 2), (3, 4), (5, 6)]
        assert good.rows() == expected


@pytest.mark.parametrize(
    ("kinds", "suggested"),
    [
        (["True", "False"], "False:0 True:1"),
        (["★★★", "★", "★★"], "'★:0' '★★:1' '★★★:2'"),
        (["like", "no"], "no:0 like:1"),
    ],
)
def test_the_numbers_suggested_for_kinds_of_feedback_rise(tmp_path: Path, kinds: list[str], suggested: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating\n" + "".join(f"7,{k},{kinds[k % len(kinds)]}\n" for k in range(12)))
    with pytest.raises(DasError, match=re.escape(f"--event {suggested} --event-column rating")):
        read_log(path)


def test_ids_that_lost_their_digits_in_a_float(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"1.{k}0000e+15,{k}\n" for k in range(9)))
    schema, (fragment,), _ = plan_log(LogOptions(input=[str(path)]))
    (batch,) = read_fragment(fragment, schema)
    assert "user_id is written as 1.23e+15, as programs write floats" in str(batch.noticed[0])


def test_a_typed_header_between_commas(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("userId:token,movieId:token,rating:float\n" + "".join(f"{u},{k},5\n" for k, u in enumerate(USERS)))
    assert read_log(path)[0].rows() == [(user, k, 5.0) for k, user in enumerate(USERS)]


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("false", "true"), ("False", "True"), ("0.0", "1.0")])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_column_that_says_whether_anything_came_of_a_row(tmp_path: Path, ending: str, no: str, yes: str) -> None:
    """Most impressions were not clicked, so they are not feedback of one kind."""
    path = tmp_path / f"log.{ending}"
    if ending == "csv":
        path.write_text(
            "user_id,item_id,is_click\n" + "".join(f"{k % 3},{k},{no if k % 4 else yes}\n" for k in range(8))
        )
    else:
        kind = {"0": int, "0.0": float}.get(no, bool)
        frame = pl.DataFrame(
            {"user_id": range(8), "item_id": range(8), "is_click": [kind(k % 4 == 0) for k in range(8)]}
        )
        frame.write_parquet(path) if ending == "parquet" else frame.write_ndjson(path)
    said = read_noticed(path)[2]
    assert "column 'is_click' is " in said
    assert " in 75% of the first rows, but is not read" in said
    value = re.findall(r"--where is_click=(\S+) leaves", said)[0]
    good, _, said = read_noticed(path, where={"is_click": value})
    assert (good.height, "is_click" in said) == (2, False)
