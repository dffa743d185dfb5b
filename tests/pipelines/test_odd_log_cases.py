"""The odd logs of ``shared/cases``, each by its own command lines: a dataset with what was noticed, or one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from prepare_kit import without_ray

from distill_at_scale import cli

CASES = Path(os.environ.get("DAS_SHARED_CASES") or Path(__file__).resolve().parents[3] / "shared" / "cases")

SAID: dict[str, list[str]] = {
    "columns-given-header-there": ["the first line names the columns, though"],
    "csv-cr-only": ["rows 72,"],
    "cut-last-line-time": ["is cut off: no line end, and timestamp is shorter"],
    "id-leading-zero-late": ["2 item_id is an integer written in another way"],
    "id-na-null": [r"user_id is missing (written as \N)"],
    "id-plus-space-late": ["3 item_id is an integer written in another way"],
    "id-space-after-comma": ["72 rows item_id has blanks around it"],
    "id-unicode-sequences": ["rows 13,"],
    "json-late-rating": ["an object has 'rating'"],
    "lightgcn-train": ["an item's position in its line stands for the time", "2 lines a user without items"],
    "mind-behaviors": ["looks like data", "the column 'item_id' holds lists"],
    "noheader-amazon-follow-message": ["--columns user_id item_id rating timestamp"],
    "noheader-amazon-ratings": ["--columns user_id item_id rating timestamp", "--map takes names", "rows 72,"],
    "space-ragged-cut-field": ["1 line has 2 fields instead of 4"],
    "steam-python-dicts": ["ast.literal_eval"],
    "tsv-stray-quotes-unread-column": ["rows 240,"],
}
"""What the commands of a case say, together."""


def run(line: str, folder: Path, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and what is on the screen, in one line."""
    out, err = io.StringIO(), io.StringIO()
    patch.chdir(folder)
    patch.setenv("COLUMNS", "300")
    patch.setattr(sys, "argv", shlex.split(line))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    if code:
        sentence = err.getvalue().strip().splitlines()
        assert sentence[-1].startswith("error: "), err.getvalue()
    return code, " ".join((out.getvalue() + err.getvalue()).split())


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not there")
@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()) if CASES.is_dir() else [])
def test_cases(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screens = []
    for k, line in enumerate((CASES / name / "cmd").read_text().splitlines()):
        if not line.strip():
            continue
        folder = tmp_path / str(k)
        shutil.copytree(CASES / name / "in", folder / "in")
        with without_ray():
            code, screen = run(line, folder, monkeypatch)
        assert code in (0, 1)
        assert "Traceback" not in screen
        screens.append(screen)
    for part in SAID.get(name, []):
        assert part in re.sub(r"\s+", " ", " ".join(screens)), screens
