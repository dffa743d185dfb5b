"""Standard output on a full disk, or with a reader that is gone: no traceback, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
DAS = [sys.executable, "-m", "distill_at_scale"]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments", [["settings", "ease"], ["settings", "ease", "--json"], ["--help"], ["fit", "--json"]], ids=" ".join
)
def test_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run([*DAS, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == (2 if arguments[0] == "fit" else 1)
    assert "error: standard output cannot be written: No space left on device.\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [["settings", "ease"], ["settings", "ease", "--json"]], ids=" ".join)
def test_a_reader_that_is_gone_hears_nothing(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*DAS, *arguments], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
