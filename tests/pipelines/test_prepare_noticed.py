"""What prepare notices reaches the manifest, the JSON and the screen; how the log was read is said there too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepare_kit import inline_prepare

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.report.console import show_dataset

LOG = "user_id,item_id,rating,timestamp\n" + "".join(
    f"{u},{i},{(u + i) % 5 + 1},{1_600_000_000 + 10 * u + i}\n" for u in range(20) for i in range(5)
)


def test_noticed_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_text(LOG)
    data = inline_prepare(input=[str(folder)], output=str(tmp_path / "out"))
    expected = {"what": "skipped: the file is empty", "count": 1, "unit": "file", "example": str(folder / "a.csv")}
    assert data.summary()["noticed"] == [expected]
    assert data.summary()["source"]["read_as"] == [
        {"format": "csv", "files": 1, "delimiter": ",", "header": True, "quote": "record"}
    ]
    show_dataset(data)
    # The terminal may break lines anywhere.
    screen = " ".join(capsys.readouterr().out.split())
    assert "noticed 1 file skipped: the file is empty" in screen
    assert "csv, ',' between fields, the first line names the columns" in screen
    assert "user_id = user_id (int64)" in screen
    assert "timestamp = timestamp (seconds)" in screen


def test_manifests_without_the_block_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"))
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    for name in ("noticed", "checksum"):
        del content[name]
    for name in ("read_as", "columns", "time_unit"):
        del content["source"][name]
    manifest.write_text(json.dumps({**content, "version": 1}))
    data = Dataset.open(str(tmp_path / "out"))
    assert data.manifest.noticed == []
    show_dataset(data)
    assert "noticed" not in capsys.readouterr().out
