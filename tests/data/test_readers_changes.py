"""A log that changes between planning and reading, or while it is read, stops the reading and is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import StorageError

LINES = [f"{user},{item},{1_500_000_000 + user}" for user in range(50) for item in range(20)]
HEAD = "user_id,item_id,timestamp\n"


def write(path: Path, lines: list[str] = LINES) -> None:
    if path.suffix == ".parquet":
        rows = [line.split(",") for line in lines]
        columns = {name: [int(row[k]) for row in rows] for k, name in enumerate(HEAD.strip().split(","))}
        pl.DataFrame(columns).write_parquet(path, row_group_size=400)
    else:
        path.write_text(HEAD + "\n".join(lines) + "\n")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 3 // 5)


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"1,2,1500000000\n")


def replace(path: Path) -> None:
    """By as many bytes, a moment later."""
    before = path.stat()
    write(path, LINES[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


CHANGES = {"truncated": truncate, "appended": append, "replaced": replace, "removed": Path.unlink}


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_after_planning_is_refused(name: str, change: Callable[[Path], None], tmp_path: Path) -> None:
    log = tmp_path / name
    write(log)
    schema, fragments, _ = plan_log(LogOptions(input=[str(log)]), fragment_bytes=4096)
    assert len(fragments) > 1 or name == "log.parquet"
    change(log)
    for fragment in fragments:
        with pytest.raises(StorageError, match=rf"{name}.*; run the command again\.$"):
            list(read_fragment(fragment, schema))


@pytest.mark.parametrize("change", [append, replace, Path.unlink], ids=["appended", "replaced", "removed"])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_change_while_reading_is_refused(name: str, change: Callable[[Path], None], tmp_path: Path) -> None:
    log = tmp_path / name
    write(log)
    schema, fragments, _ = plan_log(LogOptions(input=[str(log)]))
    reading = read_fragment(fragments[0], schema)
    next(reading)
    change(log)
    with pytest.raises(StorageError, match=rf"{name}.*; run the command again\.$"):
        list(reading)


def test_what_does_not_change_is_read(tmp_path: Path) -> None:
    for name in ("log.csv", "log.parquet"):
        write(tmp_path / name)
        schema, fragments, _ = plan_log(LogOptions(input=[str(tmp_path / name)]), fragment_bytes=4096)
        assert sum(batch.good.height for one in fragments for batch in read_fragment(one, schema)) == len(LINES)
