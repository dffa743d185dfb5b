"""Runs of one `das` command whose processes die at chosen points, and are all gone before the next one starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
_REAPER = Path(__file__).with_name("reaper.py")

Death = tuple[str, str, str]
"""Who dies (driver or worker), when (before or after), and a pattern of the file that is about to get its name, or
has just got it."""


def every_death(script: str, settings: object) -> list[dict[str, Any]]:
    """What `every_kill.py` or its like prints: where a run without Ray died, one life after another."""
    path = os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Runs:
    """Runs of `das <verb> --json …` in a folder of their own, each with a Ray of its own."""

    def __init__(self, folder: Path, ray_folder: Path, *command: str) -> None:
        self.folder, self._ray_folder = folder, ray_folder
        self._tag = f"das-runs-{os.getpid()}-{time.monotonic_ns()}"
        (folder / "site").mkdir(parents=True)
        shutil.copy(_REAPER, folder / "site" / "sitecustomize.py")
        self._command = [sys.executable, "-m", "distill_at_scale.cli", command[0], "--json", *command[1:]]

    def run(self, deaths: list[Death]) -> subprocess.CompletedProcess[str]:
        """Runs until it ends or the driver dies, and until all of its processes are gone."""
        marks = [self.folder / f"mark-{time.monotonic_ns()}-{k}" for k in range(len(deaths))]
        plan = [{"who": w, "when": t, "file": f, "mark": str(m)} for (w, t, f), m in zip(deaths, marks)]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), str(REPOSITORY)]),
            "DAS_REAPER": json.dumps(plan),
            "DAS_TEST_TAG": self._tag,
            "RAY_TMPDIR": str(self._ray_folder),
        }
        # To files: processes that outlive a killed driver would hold pipes open.
        with open(self.folder / "stdout", "w") as out, open(self.folder / "stderr", "w") as err:
            done = subprocess.run(self._command, cwd=self.folder, env=env, stdout=out, stderr=err, timeout=300)
        stdout, stderr = (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text()
        missed = [death for death, mark in zip(deaths, marks) if not mark.exists()]
        assert not missed, f"never came to {missed}: {stderr}"
        dies = any(who == "driver" for who, _, _ in deaths)
        assert (done.returncode == -signal.SIGKILL) == dies, stderr
        deadline = time.monotonic() + 60
        while left := self._processes():
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.1)
        return subprocess.CompletedProcess(self._command, done.returncode, stdout, stderr)

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DAS_TEST_TAG") == self._tag and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(str(process))
            except psutil.Error:
                continue
        return found
