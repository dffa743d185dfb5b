"""Logs as they come: nothing is guessed silently; what was skipped, changed or looks odd is noticed and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_at_scale.data.noticed import Notice, merge, shown
from distill_at_scale.data.readers import LogOptions, plan_log

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
