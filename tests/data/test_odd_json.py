"""JSON lines as they come: nested fields, keys that come twice, ids in several writings, objects that hold the log."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError


def read(path: Path, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame, list[Notice]]:
    schema, fragments, estimate = plan_log(LogOptions(input=[str(path)], **options))
    batches = [batch for fragment in fragments for batch in read_fragment(fragment, schema)]
    noticed = merge([estimate.noticed, *(batch.noticed for batch in batches)])
    return pl.concat(b.good for b in batches), pl.concat(b.bad for b in batches), noticed


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def said(noticed: list[Notice], what: str) -> list[tuple[int, str]]:
    return [(notice.count, notice.example) for notice in noticed if what in notice.what]


def test_fields_of_nested_objects_are_read_by_their_path(tmp_path: Path) -> None:
    rows = [{"user": {"id": k, "n": 1}, "item_id": 7, "ev": {"t": {"s": 1_600_000_000 + k}}} for k in range(9)]
    rows += [{"user": None, "item_id": 8, "ev": {"t": {"s": 1_600_000_000}}}, {"item_id": 8, "ev": {}}]  # type: ignore[dict-item]
    good, bad, _ = read(write(tmp_path, *rows), map={"timestamp": "ev.t.s"}, where={"user.n": ["1"]})
    assert good["user_id"].to_list() == list(range(9))
    assert good["timestamp"].to_list() == [(1_600_000_000 + k) * 10**9 for k in range(9)]
    good, bad, _ = read(write(tmp_path, *rows), map={"timestamp": "ev.t.s"})
    assert bad["reason"].to_list() == ["user_id is missing"] * 2
    # One object that the fast parser refuses sends its block the other way, with the same rows.
    slow, _, _ = read(write(tmp_path, *rows, "no object"), map={"timestamp": "ev.t.s"})
    assert slow.equals(good)


def test_a_key_with_a_dot_is_a_key(tmp_path: Path) -> None:
    rows = [{"user.id": k, "user": {"id": 99}, "item_id": 7} for k in range(3)]
    good, _, _ = read(write(tmp_path, *rows), map={"user_id": "user.id"})
    assert good["user_id"].to_list() == [0, 1, 2]


def test_a_key_that_comes_twice_is_no_guess(tmp_path: Path) -> None:
    rows = ['{"user_id": 1, "item_id": 5, "x": 1, "x": 2}', '{"user_id": 2, "item_id": 5, "user_id": 3}']
    good, bad, _ = read(write(tmp_path, *rows))
    assert good["user_id"].to_list() == [1]
    assert bad["reason"].to_list() == ["line has the key 'user_id' twice"]


@pytest.mark.parametrize("first", [7, "7"])
def test_numbers_and_text_that_become_one_id_are_noticed(tmp_path: Path, first: Any) -> None:
    rows = [{"user_id": first, "item_id": 5}] * 3 + [{"user_id": k, "item_id": 6} for k in ("7", 7, 7.0)]
    good, bad, noticed = read(write(tmp_path, *rows))
    assert good["user_id"].cast(pl.String).unique().to_list() == ["7"]
    assert bad.height == 0
    assert len(said(noticed, "user_id is a number in some objects and text in others")) == 1
    assert said(noticed, "user_id is a number with a point") == [(1, "7.0")]
    assert not [n for n in noticed if "item_id" in n.what]


def test_numbers_with_and_without_a_point_are_no_mixture_with_text(tmp_path: Path) -> None:
    good, _, noticed = read(write(tmp_path, {"user_id": 7, "item_id": 5}, {"user_id": 7.0, "item_id": 6}))
    assert good["user_id"].to_list() == ["7", "7"]
    assert [n.what.split(" is ")[1] for n in noticed] == [
        "a number with a point or an exponent in some objects, and read as the whole number"
    ]


def test_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    ids = [2**63 + 1, 2**64 - 1, 5]
    good, bad, noticed = read(write(tmp_path, *({"user_id": k, "item_id": 1} for k in ids)))
    assert good["user_id"].to_list() == [str(k) for k in ids]
    assert (bad.height, noticed) == (0, [])
    _, bad, _ = read(write(tmp_path, *({"user_id": k, "item_id": 1} for k in ("a", 2.0**53))))
    assert bad["reason"].to_list() == [
        "line has a number with a fraction, or too large for a float, where an id belongs"
    ]


def test_arrays_and_wrapped_rows_are_named_with_what_converts_them(tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"'item_id' holds arrays.*read_ndjson"):
        read(write(tmp_path, *({"user_id": k, "item_id": [1, 2]} for k in range(3))))
    rows = [{"user_id": 1, "item_id": 2}]
    with pytest.raises(DasError, match=r"in the array 'data'.*jq -c '.data\[\]'"):
        read(write(tmp_path, {"data": rows, "n": 1}))
    with pytest.raises(DasError, match=r"jq -c \. FILE"):
        read(write(tmp_path, json.dumps(rows[0], indent=1)))


def objects(n: int, late: dict[str, Any], start: int) -> str:
    """JSON lines; those from ``start`` on have more keys."""
    rows = [
        {"user_id": k // 4, "item_id": k % 4, "ts": 1_600_000_000 + k, **(late if k >= start else {})} for k in range(n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("key", ["rating", "Stars", "overall"])
def test_a_column_that_comes_late_in_json_is_not_lost(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, objects(1300, {key: 4, "text": '"rating"'}, 1200))
    with pytest.raises(DasError, match=f"an object has '{key}'.*--map rating={key} .*--map rating= "):
        read(path)
    good, bad, _ = read(path, map={"rating": ""})
    assert (good.height, bad.height, good.columns) == (1300, 0, ["user_id", "item_id", "timestamp"])
    good, bad, _ = read(path, map={"rating": key})
    assert (good.height, bad.height) == (100, 1200)
    # A text that looks like a key, or a key inside another object, is none.
    path = write(tmp_path, objects(1300, {"about": {"rating": 1}, "text": '"rating"'}, 1200))
    assert read(path)[0].height == 1300


def test_lines_of_python_are_named_with_what_converts_them(tmp_path: Path) -> None:
    text = "".join(f"{{u'username': u'p{k}', u'product_id': u'{k}', u'hours': 1.5}}\n" for k in range(9))
    path = write(tmp_path, text.removesuffix("\n"))
    with pytest.raises(DasError, match="Python dictionaries, not JSON") as error:
        read(path)
    command = re.search(r"`(.*) < FILE.json > FILE.jsonl`", str(error.value))
    assert command
    with open(path) as source, open(tmp_path / "converted.jsonl", "w") as target:
        subprocess.run(
            ["bash", "-c", command[1].replace("python", sys.executable, 1)], stdin=source, stdout=target, check=True
        )
    good, bad, _ = read(tmp_path / "converted.jsonl", map={"user_id": "username", "item_id": "product_id"})
    assert (good.height, bad.height) == (9, 0)


def test_rows_inside_objects_and_json_inside_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(3 * (json.dumps({"user_id": 1, "items": [{"item_id": 2}, {"item_id": 3}]}) + "\n"))
    with pytest.raises(DasError, match=r"'items' of each object holds rows .* `jq -c 'del\(\.items\) \+ \.items\[\]'"):
        plan_log(LogOptions(input=[str(path)]))
    path.write_text(3 * (json.dumps(json.dumps({"user_id": 1, "item_id": 2})) + "\n"))
    with pytest.raises(DasError, match=r"each line is text that holds JSON .* `jq -c fromjson"):
        plan_log(LogOptions(input=[str(path)]))
