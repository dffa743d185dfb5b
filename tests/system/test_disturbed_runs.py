"""Two drivers on one output, and jobs that are stopped: what is there in the end is what an undisturbed run makes."""

from __future__ import annotations

import importlib
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from servers import RayHead
from system_kit import errors

REPOSITORY = Path(__file__).resolve().parents[2]
VERBS = ["prepare", "sample", "fit", "distill_cf", "farzi", "sweep", "predict"]
"""As `jobs/kill_campaign.py` has them: with checkpoints, and two workers where there can be more than one."""

pytestmark = pytest.mark.slow


class Runs:
    """Runs of the campaign's commands on a cluster."""

    def __init__(self, head: RayHead, folder: Path, commands: dict[str, str], outputs: ModuleType) -> None:
        self.head, self.folder, self._commands, self.outputs = head, folder, commands, outputs
        self._logs = itertools.count()
        self.output = folder / "output" / "made"
        self._undisturbed: dict[str, dict[str, str]] = {}
        outputs.write_log(folder / "log")
        self.succeed("prepare", "--input", folder / "log", "--shards", "4", "--output", folder / "data")
        self.succeed("fit", "--data", folder / "data", "--model", "ease", "--output", folder / "model")

    def words(self, verb: str) -> list[str]:
        places = {name: self.folder / name for name in ("log", "data", "model")}
        return self._commands[verb].format(**places, out=self.output).split()

    def start(self, *words: object) -> Driver:
        return Driver(self.head, self.folder / f"{next(self._logs)}.log", [str(word) for word in words])

    def succeed(self, *words: object) -> None:
        driver = self.start(*words)
        assert driver.wait() == 0, driver.said()

    def clear(self, verb: str) -> None:
        """Removes the output; what an undisturbed run makes is known afterwards."""
        shutil.rmtree(self.output.parent, ignore_errors=True)
        if verb not in self._undisturbed:
            self.succeed(*self.words(verb))
            self._undisturbed[verb] = self.outputs.contents(self.output.parent)
            shutil.rmtree(self.output.parent)

    def differences(self, verb: str) -> list[str]:
        """How the output differs from that of an undisturbed run."""
        return list(self.outputs.differences(self._undisturbed[verb], self.outputs.contents(self.output.parent)))


class Driver:
    """A `das` command in a process of its own."""

    def __init__(self, head: RayHead, log: Path, words: list[str]) -> None:
        self._log = log
        with open(log, "w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "distill_at_scale", *words, "--address", head.address],
                env={**head.environment(), "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        try:
            return self._process.wait(300)
        finally:
            self._process.kill()

    def said(self) -> str:
        return self._log.read_text(errors="replace")


@pytest.fixture(scope="module")
def runs(ray_head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "jobs"))
        before = set(sys.modules)
        commands = importlib.import_module("kill_campaign").VERBS
        outputs = importlib.import_module("kill_campaign_outputs")
        yield Runs(ray_head, tmp_path_factory.mktemp("disturbed"), commands, outputs)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(REPOSITORY / "jobs")):
                del sys.modules[name]


@pytest.fixture
def output(runs: Runs, verb: str) -> Path:
    """Always the same place, since a sweep's records tell of it."""
    runs.clear(verb)
    return runs.output


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("together", [True, False], ids=["at once", "in the middle"])
def test_two_drivers_on_one_output(runs: Runs, verb: str, together: bool, output: Path) -> None:
    """Each ends with 0 or one sentence, and one of them with 0: then all is there, and a further run is not needed."""
    first = runs.start(*runs.words(verb))
    if not together:
        wait_for(lambda: has_begun(output) or first.has_ended)
    second = runs.start(*runs.words(verb))
    codes = [first.wait(), second.wait()]
    said = [first.said(), second.said()]
    assert 0 in codes, said
    for code, text in zip(codes, said):
        assert "Traceback" not in text, text
        assert code in (0, 1), text
        assert len(errors(text)) == code, text
    assert runs.differences(verb) == [], said


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_is_stopped_goes_on(runs: Runs, verb: str, output: Path) -> None:
    """Ray ends the job's driver, by SIGTERM and then by SIGKILL, as `ray job stop` and the dashboard do."""
    entrypoint = shlex.join([sys.executable, "-m", "distill_at_scale", *runs.words(verb)])
    environment = {"env_vars": {"PYTHONPATH": str(REPOSITORY)}}
    job = ask(runs.head, "", {"entrypoint": entrypoint, "runtime_env": environment})["submission_id"]
    wait_for(lambda: has_begun(output))
    assert ask(runs.head, f"{job}/stop", {})["stopped"]
    wait_for(lambda: ask(runs.head, job)["status"] not in ("PENDING", "RUNNING"))
    assert ask(runs.head, job)["status"] == "STOPPED"
    assert runs.differences(verb), "it had ended before it was stopped"
    runs.succeed(*runs.words(verb))
    assert runs.differences(verb) == []


def ask(head: RayHead, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the head's jobs API answers: what `ray job` asks, without the second that the command takes to start."""
    request = urllib.request.Request(
        f"{head.dashboard}/api/jobs/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + head.token_file.read_text(), "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def has_begun(output: Path) -> bool:
    """Whether a part of the work has been finished."""
    return any(path.is_file() and path.name not in ("sweep.json", "plan.json") for path in output.rglob("*"))


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
