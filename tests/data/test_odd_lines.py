"""Lines that are no plain rows: escaped quotes, pairs of index and value, fields with their names, pieces of JSON."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from readers_kit import read_log

from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError

HEADER = "user_id,item_id,rating,timestamp\n"
ROWS = [(k // 4, k, k % 5 + 1, 1_600_000_000 + k) for k in range(24)]
TABLE = "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in ROWS)


def write(folder: Path, text: str, name: str = "log.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_quotes_after_a_backslash_are_quotes(tmp_path: Path) -> None:
    """Ids keep their quotes, commas beside them end no field, and what is valid CSV stays what it was."""
    odd = ['"a\\"b"', '"a\\", b"', '"\\\\ \\"c\\""', '"ends in \\"', '"doubled "" too"', 'plain \\" one']
    text = HEADER + "".join(f"{k},{item},3,1600000000\n" for k, item in enumerate(odd)) + TABLE
    path = write(tmp_path, text)
    good, bad = read_log(path)
    ids = ['a"b', 'a", b', '\\\\ "c"', "ends in \\", 'doubled " too', 'plain \\" one']
    assert good["item_id"].head(6).to_list() == ids
    assert (good.height, bad.height) == (30, 0)
    schema, fragments, _ = plan_log(LogOptions(input=[path]))
    noticed = [notice for batch in read_fragment(fragments[0], schema) for notice in batch.noticed]
    assert [notice.count for notice in noticed if "after a backslash" in notice.what] == [3]


def test_pairs_of_index_and_value_are_no_items(tmp_path: Path) -> None:
    """Neither LIBSVM nor LETOR lines are a user with items; the command that is printed writes their rows."""
    text = "".join(f"{k % 3} " + " ".join(f"{i}:{i / 2}" for i in range(1, 4 + k % 4)) + "\n" for k in range(20))
    path = write(tmp_path, text, "train.txt")
    with pytest.raises(DasError, match=r"pairs of index and value .*--columns user_id item_id rating") as refused:
        plan_log(LogOptions(input=[path]))
    command = str(refused.value).split("`")[1].replace(" FILE ", " train.txt ").replace("FILE.csv", "rows.csv")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, bad = read_log(tmp_path / "rows.csv", columns=["user_id", "item_id", "rating"])
    assert good.head(4).rows() == [(1, 1, 0.5), (1, 2, 1.0), (1, 3, 1.5), (2, 1, 0.5)]
    assert bad.is_empty()
    write(tmp_path, "".join(f"{k % 3} qid:{k} 1:0.5 2:0.1 # doc{k}\n" for k in range(20)), "train.txt")
    with pytest.raises(DasError, match="LETOR"):
        plan_log(LogOptions(input=[path]))


def refused_command(path: str, says: str, **options: Any) -> str:
    with pytest.raises(DasError, match=says) as refused:
        plan_log(LogOptions(input=[path], **options))
    return re.split("`", str(refused.value))[1]


@pytest.mark.parametrize("format", ["auto", "sequences"])
def test_the_number_of_items_is_no_user(tmp_path: Path, format: str) -> None:
    lines = [[10 * user + k for k in range(1 + user % 3)] for user in range(20)]
    text = "".join(f"{len(items)} {' '.join(map(str, items))}\n" for items in lines)
    command = refused_command(write(tmp_path, text, "users.dat"), "begins with the number of its items", format=format)
    command = command.replace(" FILE ", " users.dat ").replace("FILE.txt", "rows.txt")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, _ = read_log(tmp_path / "rows.txt", format="sequences")
    assert good.select("user_id", "item_id").rows() == [(k + 1, i) for k, items in enumerate(lines) for i in items]


@pytest.mark.parametrize("format", ["auto", "sequences"])
def test_a_colon_is_no_part_of_a_user(tmp_path: Path, format: str) -> None:
    lines = [(user, [10 * user + k for k in range(2 + user % 3)]) for user in range(20)]
    text = "".join(f"{user}: {' '.join(map(str, items))}\n" for user, items in lines)
    command = refused_command(write(tmp_path, text, "users.txt"), "begins with a user and a colon", format=format)
    command = command.replace(" FILE ", " users.txt ").replace("FILE.txt", "rows.txt")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, _ = read_log(tmp_path / "rows.txt", format="sequences")
    assert good.select("user_id", "item_id").rows() == [(user, item) for user, items in lines for item in items]


def test_items_between_commas_are_told_apart_from_a_table(tmp_path: Path) -> None:
    lines = [(user, [10 * user + k for k in range(2 + user % 4)]) for user in range(20)]
    text = "".join(f"{user},{','.join(map(str, items))}\n" for user, items in lines)
    command = refused_command(write(tmp_path, text, "users.txt"), "3 to 6 numbers between commas")
    command = command.replace(" FILE ", " users.txt ").replace("FILE.txt", "rows.txt")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, _ = read_log(tmp_path / "rows.txt")
    assert good.select("user_id", "item_id").rows() == [(user, item) for user, items in lines for item in items]


def test_lines_with_a_user_above_its_rows_are_named(tmp_path: Path) -> None:
    text = "".join(f"{user}|3\n" + "".join(f"{item}\t80\n" for item in range(3)) for user in range(9))
    command = refused_command(write(tmp_path, text, "train.txt"), "a user and the number of the user's rows")
    command = command.replace(" FILE ", " train.txt ").replace("FILE.tsv", "rows.tsv")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, _ = read_log(tmp_path / "rows.tsv", columns=["user_id", "item_id", "rating"])
    assert good.rows() == [(user, item, 80) for user in range(9) for item in range(3)]


def test_fields_that_give_their_names_are_no_ids(tmp_path: Path) -> None:
    rows = "".join(f"ts={time} user={user} item={item}\n" for user, item, _, time in ROWS)
    path = write(tmp_path, rows, "app.log")
    with pytest.raises(DasError, match=r"gives its name .*--columns ts user item\.") as refused:
        plan_log(LogOptions(input=[path]))
    command = str(refused.value).split("`")[1].replace(" FILE ", " app.log ").replace("ROWS", "rows.txt")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    good, _ = read_log(tmp_path / "rows.txt", columns=["ts", "user", "item"])
    assert good.rows() == [(user, item, time * 1000) for user, item, _, time in ROWS]


def test_the_sizes_of_a_matrix_are_no_row(tmp_path: Path) -> None:
    rows = TABLE.replace(",", " ")
    path = write(tmp_path, f"%%MatrixMarket matrix coordinate real general\n% made\n6 24 24\n{rows}", "log.mtx")
    with pytest.raises(DasError, match=r"`tail -n \+4 FILE > ROWS`"):
        plan_log(LogOptions(input=[path]))


def test_pieces_of_json_are_no_names(tmp_path: Path) -> None:
    """Split at colons, lines with JSON have fields such as ``"user", "id"``, which once named the user's column."""
    line = 'play\t{}\t{{"playtime": 195}}\t{{"subjects": [{{"type": "user", "id": {}}}], "objects": [{{"type": "x", '
    line += '"id": {}}}]}}\n'
    path = write(tmp_path, "".join(line.format(time, user, item) for user, item, _, time in ROWS), "events.idomaar")
    with pytest.raises(DasError, match="looks like data"):
        plan_log(LogOptions(input=[path]))
