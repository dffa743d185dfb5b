"""Logs as they come: nothing is guessed silently; what was skipped, changed or looks odd is noticed and counted."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice, merge, shown
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError

HEADER = "user_id,item_id,rating,timestamp\n"


def lines(n_users: int = 20, n_items: int = 5, sep: str = ",") -> str:
    """Good rows."""
    return "".join(
        sep.join(map(str, (u, 100 + i, (u + i) % 5 + 1, 1_600_000_000 + 10 * u + i))) + "\n"
        for u in range(1, n_users + 1)
        for i in range(n_items)
    )


def write(folder: Path, text: str | bytes, name: str = "log.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def plan(*paths: str, **options: Any) -> Any:
    return plan_log(LogOptions(input=list(paths), **options))


# -- the block itself -----------------------------------------------------------------------------------------


def test_notices_that_say_the_same_are_one() -> None:
    """Counts add up over fragments, and the first example stays."""
    first = [Notice(what="odd", count=2, example="a"), Notice(what="new", count=1)]
    second = [Notice(what="new", count=1, example="b"), Notice(what="odd", count=3, example="c")]
    assert merge([first, [], second]) == [
        Notice(what="odd", count=5, example="a"),
        Notice(what="new", count=2, example="b"),
    ]
    assert str(merge([first])[0]) == "2 rows: odd (e.g. a)"
    assert Notice(what="odd", count=1, unit="file").amount == "1 file"


@pytest.mark.parametrize(("value", "as_shown"), [(" 7", "' 7'"), ("a\u00a0b", "'a\\xa0b'"), ("ä", "'ä'")])
def test_examples_show_what_the_eye_would_miss(value: str, as_shown: str) -> None:
    assert shown(value) == as_shown


def test_skipped_files_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, HEADER + lines())
    write(tmp_path, "", "a.csv")
    write(tmp_path, "", "b.csv")
    estimate = plan(str(tmp_path))[2]
    assert estimate.noticed == (
        Notice(what="skipped: the file is empty", count=2, unit="file", example=f"{tmp_path}/a.csv"),
    )


def test_how_each_file_is_read_is_said(tmp_path: Path) -> None:
    write(tmp_path, HEADER + lines())
    write(tmp_path, HEADER.replace(",", ";") + lines(sep=";"), "b.csv")
    write(tmp_path, HEADER + lines(), "c.csv")
    ways = plan(str(tmp_path))[2].read_as
    assert [(way.files, str(way)) for way in ways] == [
        (1, "csv, ';' between fields, the first line names the columns, fields may be in quotes"),
        (2, "csv, ',' between fields, the first line names the columns, fields may be in quotes"),
    ]


# -- quotes ---------------------------------------------------------------------------------------------------


def read(*paths: str, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame, list[Notice]]:
    """Good rows, bad rows, and what was noticed."""
    schema, fragments, estimate = plan(*paths, **options)
    goods, bads, noticed = [], [], [estimate.noticed]
    for fragment in fragments:
        for batch in read_fragment(fragment, schema):
            goods.append(batch.good)
            bads.append(batch.bad)
            noticed.append(batch.noticed)
    return pl.concat(goods), pl.concat(bads), merge(noticed)


def said(noticed: list[Notice], part: str) -> list[tuple[int, str]]:
    return [(notice.count, notice.example) for notice in noticed if part in notice.what]


def titled(sep: str, titles: dict[int, str], n: int = 40) -> str:
    """Rows with a title that is not read; some of their own."""
    head = sep.join(("user_id", "item_id", "title", "rating", "timestamp")) + "\n"
    return head + "".join(
        sep.join((f"{1 + k // 4}", f"{100 + k % 4}", titles.get(k, "x"), "3", f"{1_600_000_000 + k}")) + "\n"
        for k in range(n)
    )


@pytest.mark.parametrize("name", ["log.tsv", "log.csv"])
def test_stray_quotes_between_tabs_are_characters(tmp_path: Path, name: str) -> None:
    good, bad, _ = read(write(tmp_path, titled("\t", {7: '"Heroes', 20: '"Heroes', 30: 'the 7" cut'}), name))
    assert (good.height, bad.height) == (40, 0)


def test_quotes_that_close_on_their_lines_between_tabs(tmp_path: Path) -> None:
    """They are quotes then; one that does not close later in the file costs nothing and is told."""
    titles = {2: '"a\tb"', 1500: '"Heroes', 1700: '"Heroes'}
    good, bad, noticed = read(write(tmp_path, titled("\t", titles, 2000), "log.tsv"))
    assert (good.height, bad.height) == (2000, 0)
    assert said(noticed, "a quote that is not closed on its line") == [(2, shown('376\t100\t"Heroes\t3\t1600001500'))]


def test_a_header_in_quotes_between_tabs_makes_quotes_of_quotes(tmp_path: Path) -> None:
    """A line end inside them is then one of a text, as a program writes it that quotes all text."""
    path = write(tmp_path, "", "log.tsv")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["user_id", "item_id", "title", "rating"])
        writer.writerows([1 + k // 4, 100 + k % 4, {3: "one\nand two", 30: 'a "b"'}.get(k, "x"), 3] for k in range(40))
    good, bad, noticed = read(path)
    assert good.select("user_id", "item_id").rows() == [(1 + k // 4, 100 + k % 4) for k in range(40)]
    assert (bad.height, noticed) == (0, [])
    with pytest.raises(DasError, match="values in quotes, which --quote '\"' removes"):
        read(path, quote="none", map={"user_id": '"user_id"', "item_id": '"item_id"', "rating": '"rating"'})


def test_stray_quotes_between_commas_cost_their_lines_only(tmp_path: Path) -> None:
    """Rows between two stray quotes are rows, also where the second one closes the field."""
    path = write(tmp_path, titled(",", {7: '"Heroes', 20: '"Heroes', 25: '"We', 28: 'could be"'}))
    good, bad, _ = read(path)
    assert good.height == 37
    assert bad["row"].sort().to_list() == [9, 22, 27]
    assert set(bad["reason"]) == {"line has a quote that is not closed (--quote none reads quotes as plain characters)"}
    good, bad, _ = read(path, quote="none")
    assert (good.height, bad.height) == (40, 0)


def test_fields_of_several_lines_stay_whole(tmp_path: Path) -> None:
    text = '"a review\nof, several\n\nlines ""quoted"" and, more"'
    path = write(tmp_path, titled(",", {7: text, 20: '"1\n2"', 25: '"stray', 39: text}))
    good, bad, _ = read(path)
    assert good.height == 39
    assert bad["row"].to_list() == [31]


@given(
    titles=st.lists(
        st.sampled_from(["x", '"', '"a', 'b"', '"a,b"', '"a\nb"', 'c" d', '""', '"a ""b"" c"']), max_size=30
    )
)
@settings(max_examples=60)
def test_no_row_is_swallowed_whatever_the_quotes(titles: list[str]) -> None:
    """Every line's user comes out: in a good row, or in the quarantined line."""
    uri = "memory://odd/quotes.csv"
    rows = [f"u{k},i1,{title},3" for k, title in enumerate(titles)]
    storage.write_bytes(uri, ("user_id,item_id,title,rating\n" + "\n".join(rows) + "\n").encode())
    if not titles:
        return
    good, bad, _ = read(uri)
    seen = good["user_id"].to_list() + [user for line in bad["line"] for user in re.findall(r"u[0-9]+", line)]
    assert sorted(seen) == sorted(f"u{k}" for k in range(len(titles)))


# -- ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["007", "+7", " 7", "7 ", "-0", "00"])
@pytest.mark.parametrize("column", [0, 1])
def test_a_late_id_in_another_writing_is_never_merged(tmp_path: Path, odd: str, column: int) -> None:
    row = ["7", "105", "3", "1600000000"]
    row[column] = odd
    for name, sep in (("log.csv", ","), ("log.tsv", "\t"), ("log.txt", "::")):
        text = (HEADER.replace(",", sep) if sep != "::" else "") + lines(300, sep=sep) + sep.join(row) + "\n"
        good, bad, _ = read(write(tmp_path, text, name))
        assert (good.height, bad.height) == (1500, 1)
        assert "written in another way, such as 007, +7 or ' 7'" in bad["reason"][0]
        assert bad[0, ("user_id", "item_id")[column]] == odd
    quoted = HEADER + lines(300) + ",".join(f'"{field}"' for field in row) + "\n"
    good, bad, _ = read(write(tmp_path, quoted))
    assert (good.height, bad.height) == (1500, 1)
    good, bad, _ = read(write(tmp_path, HEADER + lines(300) + ",".join(row) + "\n"), id_type="string")
    assert good[-1, column] == odd


def test_ids_like_null(tmp_path: Path) -> None:
    names = ["NA", "null", "None", "nan", "NULL", "u1", r"\N"]
    path = write(tmp_path, HEADER + "".join(f"{user},i{k},5,1600000000\n" for user in names for k in range(3)))
    good, bad, noticed = read(path)
    assert bad["reason"].to_list() == [r"user_id is missing (written as \N)"] * 3
    assert r"\N" not in good["user_id"]
    assert said(noticed, "user_id is written as NULL") == [(15, "'NA'")]
    # Among integers they are missing values, wherever they come.
    for text in ("NULL,1,5,1600000000\n" + lines(), lines(300) + "None,1,5,1600000000\n"):
        good, bad, _ = read(write(tmp_path, HEADER + text))
        assert good["user_id"].dtype == pl.Int64
        assert bad["reason"].to_list() == ["user_id is missing (written as NULL, NA or the like)"]


def test_odd_ids_keep_their_text_and_are_noticed(tmp_path: Path) -> None:
    text = "".join(f"{u},{u}.0, {u},1600000000\n" for u in range(1, 5))
    good, _, noticed = read(write(tmp_path, "user_id,item_id,category_id,timestamp\n" + text))
    assert good["item_id"].to_list() == ["1.0", "2.0", "3.0", "4.0"]
    assert said(noticed, "item_id is a number ending in .0") == [(4, "'1.0'")]
    good, _, noticed = read(write(tmp_path, HEADER.replace(",", ", ") + lines(sep=", ")))
    assert good[0, "item_id"] == " 100"
    assert said(noticed, "item_id has blanks around it") == [(100, "' 100'")]
    good, _, noticed = read(write(tmp_path, HEADER + '"a b","x",1,1600000000\n' * 3), quote="none")
    assert good[0, "user_id"] == '"a b"'
    assert said(noticed, "user_id is in quotes") == [(3, "'\"a b\"'")]


def test_only_blanks_of_ascii_separate_sequences(tmp_path: Path) -> None:
    text = "u1 a\u00a0b c\nu2 c\u3000d e f\tg\n"
    good, _, _ = read(write(tmp_path, text, "seq.txt"), format="sequences")
    assert good["item_id"].to_list() == ["a\u00a0b", "c", "c\u3000d", "e", "f", "g"]


# -- headers --------------------------------------------------------------------------------------------------

NO_HEADER = "".join(f"AU{k % 9:04d},B{100 + k % 7:07d},{k % 5}.0,{1_600_000_000 + k}\n" for k in range(60))


@pytest.mark.parametrize("mapping", [{}, {"user_id": "AU0000", "item_id": "B0000100", "rating": "0.0"}])
def test_a_first_line_of_data_names_no_columns(tmp_path: Path, mapping: dict[str, str]) -> None:
    path = write(tmp_path, NO_HEADER)
    with pytest.raises(DasError, match=r"looks like data.*--columns user_id item_id rating timestamp") as error:
        plan(path, map=mapping)
    assert "\n" not in str(error.value)
    good, bad, noticed = read(path, columns=["user_id", "item_id", "rating", "timestamp"])
    assert (good.height, bad.height, noticed) == (60, 0, [])


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("alice,milk\nbob,bread\nalice,bread\n", "--columns user_id item_id"),
        ("1\t2\t3\n4\t5\t3\n", "--columns user_id item_id rating"),
        ("u1 i1 2020-01-01\nu2 i2 2020-01-02\n", "--columns user_id item_id timestamp"),
        ("anna,milk\nbob,bread\n", "or, if that line holds data, all columns in the file's order with --columns"),
    ],
)
def test_other_first_lines_of_data(tmp_path: Path, text: str, advice: str) -> None:
    with pytest.raises(DasError, match=advice):
        plan(write(tmp_path, text))


def test_a_header_beside_columns_is_no_row(tmp_path: Path) -> None:
    text = "user_id,item_id\n" + "".join(f"u{k % 5},i{k}\n" for k in range(20))
    for header in ("user_id,item_id", "reviewerID,asin"):
        path = write(tmp_path, text.replace("user_id,item_id", header))
        good, bad, noticed = read(path, columns=["user_id", "item_id"])
        assert (good.height, bad.height) == (20, 0)
        assert said(noticed, "the first line names the columns, though") == [(1, f"'{header}'")]
    # Unknown names in front of numbers, in one file of two.
    write(tmp_path, "who,what\n" + "".join(f"{k % 5},{k}\n" for k in range(20)), "a.csv")
    write(tmp_path, "".join(f"{k % 5},{k}\n" for k in range(20)), "b.csv")
    good, bad, _ = read(f"{tmp_path}/a.csv", f"{tmp_path}/b.csv", columns=["user_id", "item_id"])
    assert (good.height, bad.height, good["user_id"].dtype) == (40, 0, pl.Int64)
    with pytest.raises(DasError, match="names the columns in another order"):
        plan(write(tmp_path, "item_id,user_id\n1,2\n"), columns=["user_id", "item_id"])


@pytest.mark.parametrize("ids", ["", "u"])
@pytest.mark.parametrize("sep", [",", "\t"])
def test_a_header_that_comes_again_is_left_out(tmp_path: Path, ids: str, sep: str) -> None:
    header = HEADER.replace(",", sep)
    part = "".join(ids + line for line in lines(sep=sep).splitlines(keepends=True))
    mark = "\ufeff"
    good, bad, noticed = read(write(tmp_path, mark + header + part + mark + header + part + header + part))
    assert (good.height, bad.height) == (300, 0)
    assert said(noticed, "the header is repeated") == [(2, shown(header.strip()))]
    assert said(noticed, "byte order mark") == [(1, "")]


def test_another_header_inside_stops(tmp_path: Path) -> None:
    text = "user_id,item_id\na,b\nitem_id,user_id\nc,d\n"
    with pytest.raises(DasError, match=r"another header \(line 3\)"):
        read(write(tmp_path, text))


# -- lines and their ends -------------------------------------------------------------------------------------


def test_line_ends_of_old_macs(tmp_path: Path) -> None:
    text = HEADER + lines()
    for mac in (text.replace("\n", "\r"), text[:500] + text[500:].replace("\n", "\r")):
        good, bad, noticed = read(write(tmp_path, mac))
        assert (good.height, bad.height) == (100, 0)
        # Planning has read the header.
        in_header = HEADER.strip() + "\r" in mac
        assert said(noticed, "a carriage return alone")[0][0] == mac.count("\r") - in_header
    good, bad, noticed = read(write(tmp_path, text.replace("\n", "\r\n")))
    assert (good.height, bad.height, noticed) == (100, 0, [])


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        ("20,104,3,16", "timestamp is shorter than in the lines before"),
        ("20,104,3,160000020", "timestamp is shorter than in the lines before"),
        ("20,104,3,", "timestamp is missing"),
        ("20,104,3", "line has 3 fields instead of 4"),
        ("20,1", "line has 2 fields instead of 4"),
    ],
)
def test_a_last_line_that_is_cut_off(tmp_path: Path, cut: str, reason: str) -> None:
    path = write(tmp_path, HEADER + lines() + cut)
    good, bad, noticed = read(path)
    assert (good.height, bad.height) == (100, 1)
    assert reason in bad["reason"][0]
    assert bad["row"].to_list() == [102]
    assert said(noticed, "the last line has no line end") == [(1, path)]
    whole, bad, noticed = read(write(tmp_path, HEADER + lines().rstrip("\n")))
    assert (whole.height, bad.height) == (100, 0)
    assert len(said(noticed, "the last line has no line end")) == 1


# -- tables and sequences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [True, False])
def test_a_ragged_line_makes_no_sequences(tmp_path: Path, header: bool) -> None:
    text = (HEADER.replace(",", " ") if header else "") + lines(sep=" ") + "20 10"
    options = {} if header else {"columns": ["user_id", "item_id", "rating", "timestamp"]}
    if not header:
        with pytest.raises(DasError, match="looks like data"):
            plan(write(tmp_path, text, "log.txt"))
    good, bad, _ = read(write(tmp_path, text, "log.txt"), **options)
    assert (good.height, bad.height) == (100, 1)


def test_lines_of_which_many_have_one_length_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, "1 2 3\n" * 7 + "1 2 3 4\n" * 3, "log.txt")
    with pytest.raises(DasError, match=r"specify whether this is a table .* or one line per user"):
        plan(path)
    assert read(path, format="sequences")[0].height == 23


def test_sequences_say_what_they_take_for_time(tmp_path: Path) -> None:
    text = "".join(f"{u} " + " ".join(map(str, range(u, u + 3 + u % 5))) + "\n" for u in range(20)) + "20 \n21\n"
    good, bad, noticed = read(write(tmp_path, text, "train.txt"))
    assert (good.height, bad.height) == (100, 0)
    assert said(noticed, "a user without items is skipped") == [(2, "'20'")]
    assert len(said(noticed, "an item's position in its line stands for the time")) == 1
    assert len(said(noticed, "sorted by id")) == 1
    _, _, noticed = read(write(tmp_path, text.replace("1 1 2 3 4\n", "1 4 2 3 1\n"), "train.txt"))
    assert said(noticed, "sorted by id") == []


# -- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", ["N5 N15", "5,15,25", "['B01', 'B02']", "12|13"])
def test_lists_where_one_id_belongs_are_refused(tmp_path: Path, items: str) -> None:
    text = "user\titem\n" + "".join(f"u{k}\t{items}\n" for k in range(9))
    with pytest.raises(DasError, match=r"the column 'item' holds lists .*write one row per value .*--id-type string"):
        plan(write(tmp_path, text))


@pytest.mark.parametrize("item", ["12|3", 'Filmé "37", part 1'])
def test_composite_ids_are_read_if_ids_are_said_to_be_strings(tmp_path: Path, item: str) -> None:
    quoted = '"' + item.replace('"', '""') + '"'
    path = write(tmp_path, "user,title\n" + "".join(f"{k},{quoted}\n" for k in range(9)), "log.csv")
    with pytest.raises(DasError, match="--id-type string"):
        plan(path, map={"item_id": "title"})
    good, bad, noticed = read(path, map={"item_id": "title"}, id_type="string")
    assert (good["item_id"].unique().to_list(), bad.height) == ([item], 0)
    assert len(said(noticed, "'title' looks like lists, but each value is read as one item_id")) == 1


@pytest.mark.parametrize(
    "item", ["Toy Story", "12,345", "The Matrix (1999)", "Action|Comedy", "2020-01-01 10:00", "a1 b"]
)
def test_ids_with_blanks_are_no_lists(tmp_path: Path, item: str) -> None:
    good, _, _ = read(write(tmp_path, "user\titem\n" + f"u1\t{item}\n" * 9))
    assert good[0, "item_id"] == item
