"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

import distill_at_scale as das
from distill_at_scale.errors import DasError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def test_quickstart(tmp_path: Path) -> None:
    try:
        das.fetch(name="ml-100k")  # into the test run's own cache, where the notebook finds it
    except DasError as error:
        pytest.skip(f"no source of ml-100k can be reached from here: {error}")
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.id: cell.outputs[-1]["data"]["text/plain"] for cell in notebook.cells if cell.get("outputs")}
    assert "users=943, items=1,682, rows=100,000" in shown["cell-05"]
    assert "'ease'" in shown["cell-10"]
    assert (tmp_path / "das-quickstart" / "models" / "ease" / "model.json").exists()
