"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from notebook_kit import run_notebook


def test_quickstart(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the test run's own Ray, which spares the start of another; `das quickstart` starts its own."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    shown = run_notebook("quickstart.ipynb", tmp_path)
    assert "users=943, items=1,682, rows=100,000" in shown["cell-05"]
    assert "'ease'" in shown["cell-10"]
    assert (tmp_path / "das-quickstart" / "models" / "ease" / "model.json").exists()


@pytest.mark.slow
def test_recommend(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the address of a cluster that runs already."""
    monkeypatch.setenv("DAS_ADDRESS", ray.get_runtime_context().gcs_address)
    shown = run_notebook("recommend.ipynb", tmp_path, tmp_path / "das-recommend" / "log")
    assert "Make it: das sample" in shown["cell-05"]
    # Two models on everything and on six samples.
    assert "14 of 14 done" in shown["cell-07"]
    assert "random_users" in shown["cell-08"]
    assert "<svg" in (tmp_path / "das-recommend" / "report.html").read_text()
