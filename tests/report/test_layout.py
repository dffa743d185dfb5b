"""Text on standard output: whole lines, whatever the width, and as they are."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from distill_at_scale.report.layout import command, facts, grid, show

PATH = "s3://bucket/" + "a-long-folder/" * 20 + "[red] :smile: part"


@pytest.mark.parametrize("columns", ["20", "80", "140"])
def test_nothing_is_folded_cut_or_read_as_markup(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    numbers = [f"model_{k}" for k in range(40)]
    show(f"written to {PATH}", facts("title", [("file", PATH)]), grid(["rows", "file"], [("7", PATH)], words={1}))
    show(grid(["method", *numbers], [["random", *numbers]]))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"written to {PATH}",
        "title",
        f"file  {PATH}",
        "rows  file",
        f"   7  {PATH}",
        "  ".join(["method", *numbers]),
        "  ".join(["random", *numbers]),
    ]


def test_columns_stand_below_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    show(grid(["method", "kept"], [("head_users", "1.5 %"), ("表", "93.0 %")]))
    assert capsys.readouterr().out.splitlines() == [
        "method        kept",
        "head_users   1.5 %",
        "表          93.0 %",
    ]


def test_lines_of_a_fact_stay_beside_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    show(facts("t", [("a name", "one\ntwo\n"), ("b", 3)]))
    assert capsys.readouterr().out.splitlines() == ["t", "a name  one", "        two", "b       3"]


WORDS = ["das", "prepare", "--input", "a file.csv", "it's", "--delimiter", "\t", "$HOME", "é'\t\\n\x01", "back\\slash"]


def test_a_shell_takes_a_command_as_it_was_meant() -> None:
    line = command(*WORDS)
    assert "\t" not in line
    answer = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\0")[:-1] == WORDS
    assert shlex.split(command("a b", "c")) == ["a b", "c"]
