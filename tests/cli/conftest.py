"""`das` as a fixture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import Das


@pytest.fixture
def das(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Das:
    """Calls the command line in this process."""
    return Das(monkeypatch, capsys)
