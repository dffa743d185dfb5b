"""Folders as they come: copies, backups, hidden files, broken links, odd names; and first values that disagree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from readers_kit import read_noticed

from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError

ROWS = "user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(1, 9) for i in range(3))


def read(place: Path, **options: Any) -> tuple[pl.DataFrame, list[Notice]]:
    schema, fragments, estimate = plan_log(LogOptions(input=[str(place)], **options))
    batches = [batch for fragment in fragments for batch in read_fragment(fragment, schema)]
    return pl.concat(b.good for b in batches), merge([estimate.noticed, *(batch.noticed for batch in batches)])


def said(noticed: list[Notice], what: str) -> list[tuple[int, str]]:
    return [(notice.count, notice.example.rsplit("/", 1)[-1]) for notice in noticed if what in notice.what]


def test_copies_and_backups_are_read_and_noticed(tmp_path: Path) -> None:
    for name in ("a.csv", "a (1).csv", "a.csv.bak", "b.csv.part"):
        (tmp_path / name).write_text(ROWS if name[0] == "a" else ROWS[:60])
    good, noticed = read(tmp_path)
    assert good.height == 24 * 3 + 11
    assert said(noticed, "a copy?") == [(2, "a.csv")]
    assert said(noticed, "a backup or an unfinished download") == [(2, "a.csv.bak")]


RUN = '{\n  "verb": "export",\n  "config": {}\n}\n'


def test_descriptions_of_outputs_are_passed_over_aloud(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    (tmp_path / "run.json").write_text(RUN)
    (tmp_path / "export.json").write_text('{\n  "format": "distill_at_scale/export",\n  "version": 1\n}\n')
    (tmp_path / "croissant.json").write_text("{}\n")
    for place in (tmp_path, tmp_path / "*"):
        good, noticed = read(place)
        assert good.height == 24
        assert said(noticed, "describes what a verb such as `das export` wrote") == [(3, "run.json")]
    for name in ("run.json", "export.json"):
        with pytest.raises(DasError, match=rf"{name}: this file describes .* pass its folder"):
            plan_log(LogOptions(input=[str(tmp_path / name)]))
    (tmp_path / "predictions.json").write_text('{"format": "distill_at_scale/predictions"}\n')
    with pytest.raises(DasError, match=r"these are the recommendations of `das predict`, not a log; pass the log"):
        plan_log(LogOptions(input=[str(tmp_path)]))
    lists = tmp_path / "predictions"
    lists.mkdir()
    (lists / "a.csv").write_text(ROWS)
    for place in (lists, lists / "a.csv", lists / "*.csv"):
        with pytest.raises(DasError, match="these are the recommendations of `das predict`"):
            plan_log(LogOptions(input=[str(place)]))
    (tmp_path / "predictions.json").unlink()
    assert read(lists)[0].height == 24


def test_logs_with_the_names_of_descriptions_are_read(tmp_path: Path) -> None:
    for name in ("export.json", "run.json"):
        (tmp_path / name).write_text("".join(f'{{"user_id": {u}, "item_id": {len(name)}}}\n' for u in range(9)))
    good, noticed = read(tmp_path)
    assert good.height == 18
    assert said(noticed, "describes") == []


def test_hidden_files_are_passed_over_aloud_but_markers_are_not(tmp_path: Path) -> None:
    for name in ("a.csv", ".b.csv", "_c.csv"):
        (tmp_path / name).write_text(ROWS)
    (tmp_path / "_temporary").mkdir()
    for name in ("_SUCCESS", ".a.csv.crc", ".DS_Store", "_temporary/part-0.csv"):
        (tmp_path / name).write_text("x")
    assert said(read(tmp_path)[1], "the name begins with . or _") == [(2, ".b.csv")]
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DasError, match=r"holds only files that are skipped.*\.b\.csv"):
        read(tmp_path)


def test_a_link_to_nothing_and_a_name_without_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DasError, match=r"b\.csv: this link points to a missing file"):
        read(tmp_path)
    (tmp_path / "b.csv").unlink()
    os.rename(os.fsencode(tmp_path / "a.csv"), os.fsencode(tmp_path) + b"/a\xff.csv")
    with pytest.raises(DasError, match=r"a\\xff\.csv: the name of this file is not UTF-8"):
        read(tmp_path)


def test_a_part_without_rows_decides_no_type(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.clear().cast(pl.String).write_parquet(tmp_path / "b.parquet")
    assert read(tmp_path)[0].rows() == [(1, 3), (2, 4)]


@pytest.mark.parametrize("odd", ["007", "+7", "u7", "\u00a07"])
def test_text_because_of_a_few_values_is_noticed(tmp_path: Path, odd: str) -> None:
    (tmp_path / "a.csv").write_text(ROWS + f"{odd},1\n")
    good, noticed = read(tmp_path)
    assert good.schema["user_id"] == pl.String
    assert len(said(noticed, "among the first user_ids, unlike the plain integers beside it")) == 1
    assert len(said(noticed, "user_id holds characters that cannot be seen")) == (odd[0] == "\u00a0")
    (tmp_path / "a.csv").write_text("user_id,item_id\n" + "".join(f"👩\u200d🔬{k},{k}\n" for k in range(9)))
    assert read(tmp_path)[1] == []


def test_a_header_that_comes_again_makes_no_text_of_integers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS + ROWS)
    good, noticed = read(tmp_path)
    assert (good.schema["user_id"], good.height) == (pl.Int64, 48)
    assert len(said(noticed, "the header is repeated")) == 1


def test_times_with_and_without_a_zone_are_noticed(tmp_path: Path) -> None:
    zones = ("Z", "+02:00", "")
    rows = "".join(f"{k},{k},2020-09-13T12:00:0{k}{zones[k % 3]}\n" for k in range(9))
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n" + rows)
    assert said(read(tmp_path)[1], "without a zone, though others have one") == [(3, "2020-09-13T12:00:02")]
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n" + rows.replace("Z", "").replace("+02:00", ""))
    assert read(tmp_path)[1] == []


@pytest.mark.parametrize(
    "text",
    [
        "This is the log of our shop\nIt was exported in May\nAll rows are there and more\nsee also the wiki\n",
        "".join(f"- user_id: {u}\n  item_id: {u}\n" for u in range(9)),
    ],
    ids=["prose", "yaml"],
)
def test_text_of_another_kind_is_never_taken_for_sequences(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes").write_text(text)
    with pytest.raises(DasError, match="do not look like a user with the user's items"):
        read(tmp_path)


@pytest.mark.parametrize("delimiter", ["\\t", "\\x01", "\\u0001"])
def test_a_delimiter_may_be_written_as_an_escape(tmp_path: Path, delimiter: str) -> None:
    sign = "\t" if delimiter == "\\t" else "\x01"
    (tmp_path / "a").write_text(ROWS.replace(",", sign))
    assert read(tmp_path, delimiter=delimiter)[0].height == 24


def test_the_order_of_files_that_stands_for_time_is_said(tmp_path: Path) -> None:
    for k in (1, 2, 10):
        (tmp_path / f"part-{k}.csv").write_text(ROWS.replace("8,2", f"9,{k}"))
    [notice] = [n for n in read(tmp_path, order="file")[1] if "follow each other" in n.what]
    assert notice.example == "part-1.csv, part-10.csv, part-2.csv"
    assert "by their numbers, part-2.csv would come before part-10.csv" in notice.what
    (tmp_path / "part-10.csv").rename(tmp_path / "part-3.csv")
    [notice] = [n for n in read(tmp_path, order="file")[1] if "follow each other" in n.what]
    assert "by their numbers" not in notice.what


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_negative_ratings_are_noticed(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 2, 3], "rating": [4.0, -1.0, -1.0]})
    frame.write_csv(tmp_path / "a.csv") if ending == "csv" else frame.write_parquet(tmp_path / "a.parquet")
    good, noticed = read(tmp_path)
    assert good.height == 3
    assert said(noticed, "rating is negative") == [(2, "-1")]


@pytest.mark.parametrize(
    "before",
    [
        "% bip weighted\n% 120 20\n",
        "# exported 2020\n",
        "sep=,\n",
        "-- dump\n",
        "@RELATION r\n",
    ],
)
@pytest.mark.parametrize("columns", [None, ["user_id", "item_id"]])
def test_lines_before_the_table_are_named_with_what_removes_them(
    tmp_path: Path, before: str, columns: list[str] | None
) -> None:
    (tmp_path / "a.csv").write_text(before + (ROWS if columns is None else ROWS.split("\n", 1)[1]))
    with pytest.raises(DasError, match=rf"the first .* a comment, and no row.*`tail -n \+{before.count(chr(10)) + 1} "):
        read(tmp_path, columns=columns)


def test_a_header_or_ids_that_begin_with_a_sign_are_no_comments(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# " + ROWS)
    assert read(tmp_path, map={"user_id": "# user_id"})[0].height == 24
    (tmp_path / "a.csv").write_text("user_id,item_id\n# a,1\n#b,2\n#c,3\n")
    assert read(tmp_path)[0]["user_id"].to_list() == ["# a", "#b", "#c"]


def test_runs_of_blanks_are_named_with_what_makes_them_one(tmp_path: Path) -> None:
    rows = [line.split(",") for line in ROWS.split()]
    path = tmp_path / "a.txt"
    for begin in (0, 1):
        path.write_text("".join(f"{u:>8} {i:>9}\n" for u, i in rows[begin:]))
        with pytest.raises(DasError, match="runs of blanks separate") as refused:
            read(path)
        command = str(refused.value).split("`")[1].replace("FILE", str(path)).replace("ROWS", str(tmp_path / "b.txt"))
        subprocess.run(["bash", "-c", command], check=True)
        options = {"columns": ["user_id", "item_id"]} if begin else {}
        assert read(tmp_path / "b.txt", **options)[0].height == 24


def test_a_dataset_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("manifest.json", "items.parquet", "shards/part-00000.parquet"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DasError, match="this is a dataset, not a log; verbs take it as --data"):
        read(tmp_path)


def test_parts_of_other_folders_are_no_copies(tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / f"dt=2026-01-0{day}").mkdir()
        (tmp_path / f"dt=2026-01-0{day}" / "a.csv").write_text(ROWS)
    assert read(tmp_path, map={"timestamp": "dt"})[1] == []


def test_a_time_far_outside_is_shown_in_whole_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n" + "1,2,1600000000000000\n" * 3)
    schema, _, estimate = plan_log(LogOptions(input=[str(tmp_path)], time_unit="s"))
    assert schema.time_unit == "s"
    assert "the times lie around beyond the year 9999 " in estimate.noticed[0].what


def test_an_order_of_lines_that_is_one_of_ids_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    pairs = [(user, item) for user in range(8) for item in (3, 7, 20, 100)]
    path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    said = "each user's first items are sorted by id, an order that carries no time"
    assert said in read_noticed(path, order="file")[2]
    assert said not in read_noticed(path)[2]
    pairs[1], pairs[2] = pairs[2], pairs[1]
    path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    assert said not in read_noticed(path, order="file")[2]
