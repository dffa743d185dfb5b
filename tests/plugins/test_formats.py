"""Log formats from outside the package: by spec, and by entry point, where they recognise their files."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from cli_kit import Das
from plugins_kit import AVRO, HALF, LOGFMT, entry_points
from prepare_kit import inline_prepare
from readers_kit import read_log

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.data.readers.log_format import LogFormat
from distill_at_scale.errors import DasError, PluginError, SettingError
from distill_at_scale.registry import FORMATS

pytestmark = pytest.mark.usefixtures("outside")

ROWS = [(u, 10 + (u + k) % 7, 1_600_000_000 + 10 * k + u) for u in range(9) for k in range(5)]


def write(folder: Path) -> Path:
    """A log in two formats."""
    lines = "".join(f"ts={t} user={u} item={i}\n" for u, i, t in ROWS[::2])
    (folder / "a.logfmt.gz").write_bytes(gzip.compress((lines + "user=1 ts=1600000000\n").encode()))
    frame = pl.DataFrame(ROWS[1::2], schema=["user", "item", "ts"], orient="row")
    frame.write_avro(folder / "b.avro")
    return folder


def test_lines_by_spec(tmp_path: Path) -> None:
    log = write(tmp_path) / "a.logfmt.gz"
    good, bad = read_log(log, format=LOGFMT)
    assert good.rows() == [(u, i, t * 1000) for u, i, t in ROWS[::2]]
    assert bad.select("reason", "row", "line").rows() == [
        ("line is not of the format logfmt", 24, "user=1 ts=1600000000")
    ]
    data = inline_prepare(
        input=[str(log)], output=str(tmp_path / "out"), format=LOGFMT, split="20_percent_hist", max_bad_share=0.1
    )
    assert data.manifest.source["read_as"][0]["format"] == LOGFMT
    (tmp_path / "other").write_text("1 2 3\n")
    with pytest.raises(
        DasError, match=r"other: the first lines are not of the format logfmt, with the fields user, item"
    ):
        plan_log(LogOptions(input=[str(tmp_path / "other")], format=LOGFMT))


def test_a_table_by_spec(tmp_path: Path) -> None:
    log = write(tmp_path) / "b.avro"
    with pytest.raises(DasError, match="an Avro file; convert it with"):
        plan_log(LogOptions(input=[str(log)]))
    good, bad = read_log(log, format=AVRO)
    assert good.rows() == [(u, i, t * 1000) for u, i, t in ROWS[1::2]]
    assert not bad.height
    # Conditions and columns are the same for all formats.
    good, _ = read_log(log, format=AVRO, where={"user": ["4"]}, map={"timestamp": ""})
    assert good.rows() == [(u, i) for u, i, _ in ROWS[1::2] if u == 4]


def test_by_entry_point_files_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write(folder)
    pl.DataFrame([(0, 99, 5)], schema=["user", "item", "ts"], orient="row").with_columns(ts=1_600_000_000).write_csv(
        folder / "c.csv"
    )
    entry_points(tmp_path, monkeypatch, formats={"key_value": LOGFMT, "avro": AVRO})
    assert list(FORMATS)[-2:] == ["avro", "key_value"]
    good, bad = read_log(folder)
    assert sorted(good["item_id"]) == sorted([i for _, i, _ in ROWS] + [99])
    assert bad.height == 1
    assert {way.format for way in plan_log(LogOptions(input=[str(folder)]))[2].read_as} == {"key_value", "avro", "csv"}
    good, _ = read_log(folder / "b.avro", format="AVRO")
    assert good.height == len(ROWS) // 2


def test_what_is_no_format_is_said(das: Das) -> None:
    said = das("prepare", "--input", "i", "--output", "o", "--format", HALF)
    assert said.code == 2
    assert said.error.startswith(
        f"--format '{HALF}' is not a log format: it is not an instance of distill_at_scale.data"
    )
    said = das("prepare", "--input", "i", "--output", "o", "--format", "cvs")
    assert "Did you mean 'csv'?" in said.error
    with pytest.raises(PluginError, match="'nowhere' is missing"):
        FORMATS.find("nowhere:FORMAT")
    with pytest.raises(SettingError, match="the log formats are parquet, arrow, "):
        FORMATS.find("csw")


def test_every_format_is_an_object_under_its_own_name() -> None:
    for name in FORMATS:
        assert isinstance(FORMATS[name], LogFormat)
        assert FORMATS[name].name == name
