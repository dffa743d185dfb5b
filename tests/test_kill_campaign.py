"""jobs/kill_campaign.py: what it takes for a difference. The campaign itself takes an hour and is run by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "jobs"))
    import kill_campaign_outputs

    yield kill_campaign_outputs
    del sys.modules["kill_campaign_outputs"]


def test_a_file_that_is_missing_left_over_or_other_is_a_difference(outputs, tmp_path: Path) -> None:
    for name, text in {"one": "x", "other": "y"}.items():
        place = tmp_path / name / "made"
        place.mkdir(parents=True)
        (place / "run.json").write_text(text)
        (place / f"only-{name}").write_text(text)
        (place / "rows.parquet").write_text(text)
        model = {"metric": 0.5, "costs": [{"fit_cpu_s": ord(text), "seconds": ord(text)}], "checksum": text}
        (place / "model.json").write_text(json.dumps(model))
    one, other = (outputs.contents(tmp_path / name) for name in ("one", "other"))
    assert outputs.differences(one, one) == []
    assert outputs.differences(one, other) == [
        "differs: made/rows.parquet",
        "left over: made/only-other",
        "missing: made/only-one",
    ]
    (tmp_path / "other" / "made" / "model.json").write_text(json.dumps({"metric": 0.5, "costs": [{}], "checksum": "z"}))
    assert "differs: made/model.json" in outputs.differences(one, outputs.contents(tmp_path / "other"))
