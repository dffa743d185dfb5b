"""Runs notebooks."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

import distill_at_scale as das
from distill_at_scale.errors import DasError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run_notebook(name: str, folder: Path, log: Path | None = None) -> dict[str, str]:
    """Runs a notebook; what its cells showed last, by their ids.

    Args:
        folder: its working directory.
        log: folder to which it fetches the log. Default: the test run's own cache.
    """
    try:
        das.fetch(name="ml-100k", output=None if log is None else str(log))  # where the notebook finds it
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
