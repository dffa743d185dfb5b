"""Shares of a split by time: refused where the split ignores them, whatever says so, but not in recorded settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prepare_kit import inline_prepare

from distill_at_scale.config import PrepareConfig
from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.planning.verbs import make_plan


def rows(users: range) -> str:
    lines = [f"{u},{i},{1_600_000_000 + 10 * u + i}" for u in users for i in range(5)]
    return "\n".join(["user_id,item_id,timestamp", *lines]) + "\n"


ROWS, MORE = rows(range(20)), rows(range(20, 23))


def log(folder: Path, text: str, name: str = "log.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("split", ["leave_2", "20_percent_hist", "column"])
def test_shares_that_a_split_ignores_are_refused(tmp_path: Path, split: str) -> None:
    asked: dict[str, Any] = {"input": [log(tmp_path, ROWS)], "output": str(tmp_path / "out"), "split": split}
    said = rf"^--test-share is of --split temporal, not of {split}; leave it out\.$"
    with pytest.raises(SettingError, match=said):
        inline_prepare(**asked, test_share=0.3, validation_share=0.2)
    with pytest.raises(SettingError, match=said):
        make_plan("prepare", PrepareConfig.model_validate({**asked, "test_share": 0.3}), "1x4x64")
    assert not (tmp_path / "out").exists()


def test_recorded_shares_of_other_splits_are_no_error(tmp_path: Path) -> None:
    """Recorded settings hold all of them, and those of older datasets some that nothing reads."""
    path = log(tmp_path, ROWS)
    data = inline_prepare(input=[path], output=str(tmp_path / "out"))
    again = inline_prepare(**data.manifest.config, output=str(tmp_path / "again"))
    assert again.manifest.fingerprint == data.manifest.fingerprint
    manifest = data.manifest.model_copy(update={"config": {**data.manifest.config, "test_share": 0.3}})
    manifest.write(data.uri)
    more = log(tmp_path, MORE, "more.csv")
    after = inline_prepare(append=data.uri, input=[more], output=str(tmp_path / "after"))
    assert after.n_rows == data.n_rows + 15
