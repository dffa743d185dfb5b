"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest
import ray

import distill_at_scale as das
from distill_at_scale.errors import DasError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run(name: str, folder: Path) -> dict[str, str]:
    """Runs a notebook; what its cells showed last, by their ids."""
    try:
        das.fetch(name="ml-100k")  # into the test run's own cache, where the notebook finds it
    except DasError as error:
        pytest.skip(f"no source of ml-100k can be reached from here: {error}")
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return {
        cell.id: "".join(output.get("text") or output["data"]["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
        if cell.get("outputs")
    }


def test_quickstart(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the test run's own Ray, which spares the start of another; `das quickstart` starts its own."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    shown = run("quickstart.ipynb", tmp_path)
    assert "users=943, items=1,682, rows=100,000" in shown["cell-05"]
    assert "'ease'" in shown["cell-10"]
    assert (tmp_path / "das-quickstart" / "models" / "ease" / "model.json").exists()


@pytest.mark.slow
def test_recommend(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the address of a cluster that runs already."""
    monkeypatch.setenv("DAS_ADDRESS", ray.get_runtime_context().gcs_address)
    shown = run("recommend.ipynb", tmp_path)
    assert "Make it: das sample" in shown["cell-05"]
    # Two models on everything and on six samples.
    assert "14 of 14 done" in shown["cell-07"]
    assert "random_users" in shown["cell-08"]
    assert "<svg" in (tmp_path / "das-recommend" / "report.html").read_text()
