"""expand: the log that the core defines, in files that any run makes alike; and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from prepare_kit import inline_prepare, random_rows, write_logs

import distill_at_scale as das
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.expansion import expand as expanded
from distill_at_scale.errors import OutputExistsError, SettingError, StorageError
from distill_at_scale.pipelines import expand as pipeline
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("expand")
    logs = write_logs(folder, random_rows(4, 2000, 120, 60), 1)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=2)


def read(result: pipeline.Expansion) -> pl.DataFrame:
    return pl.read_parquet(result.log)


def test_the_log_is_the_cores_and_can_be_prepared(
    data: Dataset, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_PART_ROWS", 100)
    result = das.expand(data, by="3X2", output=str(tmp_path / "out"), seed=5)
    log = read(result)
    assert (result.by, result.rows, result.users) == ("3x2", log.height, log["user_id"].n_unique())
    assert result.items == 2 * data.n_items
    rates = np.array(recorded.read_json(str(tmp_path / "out" / "expansion.json"), "")["rates"])
    assert result.rows == pytest.approx(rates.sum() * data.n_rows, rel=0.05)
    expected = []
    for shard in range(2):
        rows = data.interactions("train", "validation", "test", shards=[shard])
        assert rows.ratings is not None
        assert rows.timestamps is not None
        for block in range(3):
            for copy in expanded(rows, (0, len(rows)), block, rates[block], data.n_users, 5):
                values = (copy.users, copy.items, rows.ratings[copy.sources], rows.timestamps[copy.sources])
                expected += list(zip(*(value.tolist() for value in values)))
    assert sorted(log.with_columns(pl.col("timestamp").dt.epoch("ms")).rows()) == sorted(expected)
    assert result.files > 6, "several parts a shard"

    prepared = inline_prepare(input=[result.log], output=str(tmp_path / "prepared"), duplicates="all")
    assert prepared.n_rows + sum(prepared.manifest.dropped.values()) == result.rows

    # The same again, killed at the end: all parts are taken up. With one part a shard, the log is the same.
    with monkeypatch.context() as patch:
        patch.setattr(PartsOutput, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            das.expand(data, by="3x2", output=str(tmp_path / "killed"), seed=5)
    again = das.expand(data, by="3x2", output=str(tmp_path / "killed"), seed=5)
    assert again.reused_parts == result.files
    monkeypatch.undo()
    whole = das.expand(data, by="3x2", output=str(tmp_path / "whole"), seed=5)
    assert read(whole).sort(pl.all()).equals(log.sort(pl.all()))
    with pytest.raises(OutputExistsError, match="holds an expansion already"):
        das.expand(data, by="3x2", output=str(tmp_path / "whole"))


def test_what_is_refused(data: Dataset, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(by: str, message: str, error: type[Exception] = SettingError) -> None:
        with pytest.raises(error, match=message):
            das.expand(data, by=by, output=str(tmp_path / "out"))
        assert not (tmp_path / "out" / "log").exists()

    for wrong in ("32", "0x2", "ax2", "2x2x2"):
        refused(wrong, rf"'{wrong}' is not two numbers of at least 1; write it as 32x64")
    refused(f"{data.n_users + 1}x1", rf"at most {data.n_users:,} blocks of users are possible; the dataset has")
    refused(f"1x{data.n_items + 1}", rf"at most {data.n_items:,} blocks of items are possible; the dataset has")
    with pytest.raises(SettingError, match="lies in the dataset to expand; choose another --output"):
        das.expand(data, by="2x2", output=f"{data.uri}/larger")
    monkeypatch.setattr(pipeline, "_MOST_ITEMS", 100)
    refused("1x9", r"at most \d blocks of items are possible; a dataset holds at most 100 items")
    full: Any = NamedTuple("Usage", [("total", int), ("used", int), ("free", int)])(1, 1, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    refused("2x1", r"are needed for [\d,]+ rows, and the disk has 100 B free", StorageError)
