"""-q, -v and --log-file: what is shown, what is kept, and that no credentials are in either."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Das

from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import progress

URI = "s3://KEY:very-secret@bucket/data"


@pytest.fixture
def talking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that says something of every level, and fails."""

    def run(name: str, settings: Any) -> None:
        log = logging.getLogger("distill_at_scale.pipelines.talking")
        log.debug("a detail")
        progress.say("a note")
        log.warning("beware of %s", URI)
        with progress.stage("a stage", 2) as stage:
            stage.advance(2)
        raise DasError(f"it failed at {URI}")

    monkeypatch.setattr("distill_at_scale.cli.run", run)


def test_levels(das: Das, talking: None) -> None:
    shown = {flags: das("inspect", "x", *flags.split()).err for flags in ("", "-q", "-v", "--quiet", "--verbose")}
    said = shown[""].splitlines()
    assert said[0] == "a note"
    assert said[1].startswith("warning: beware of s3://")
    assert said[2].startswith("a stage: 2/2, done in ")
    assert said[3].startswith("error: it failed at s3://")
    assert len(said) == 4
    assert [line.partition(":")[0] for line in shown["-q"].splitlines()] == ["warning", "error"]
    assert shown["--quiet"] == shown["-q"]
    assert "debug: a detail" in shown["-v"].splitlines()
    assert "debug: a detail" in shown["--verbose"].splitlines()
    assert "Traceback" in shown["-v"]
    assert all("Traceback" not in shown[flags] for flags in ("", "-q"))
    assert all("secret" not in text for text in shown.values())


def test_a_file_keeps_everything(das: Das, talking: None, tmp_path: Path) -> None:
    file = tmp_path / "das.log"
    for times in (1, 2):
        assert das("inspect", "x", "-q", "--log-file", str(file)).code == 1
        text = file.read_text()
        assert text.count("a note") == text.count("a detail") == times
    assert "Traceback" in text
    assert "secret" not in text
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} DEBUG distill_at_scale\.cli: das inspect: ", text)
    assert "ERROR distill_at_scale.cli: it failed" in text
    assert logging.getLogger("distill_at_scale").handlers == []


def test_a_file_that_cannot_be_written(das: Das, talking: None, tmp_path: Path) -> None:
    said = das("inspect", "x", "--log-file", str(tmp_path), "--json")
    assert said.code == 2
    assert said.error == f"--log-file {tmp_path} cannot be written: Is a directory."
    assert said.json == {"error": said.error}
