"""What the tests of plugins share: a package of somebody else's that can be imported, and `das` as a fixture."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))

from cli_kit import Das
from plugins_kit import PACKAGE, forget

# Workers of the session, which starts later, find the package too; this process only where a test asks for it.
os.environ["PYTHONPATH"] = os.pathsep.join([os.environ["PYTHONPATH"], str(PACKAGE)])


@pytest.fixture
def das(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Das:
    """Calls the command line in this process."""
    return Das(monkeypatch, capsys)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be imported; afterwards nothing of it is left."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    forget()
    yield
    forget()
