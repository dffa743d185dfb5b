"""The drivers of `kill_campaign.py`.

Run as a script, this is the launcher: it imports everything once, and each driver is a fork of it. Drivers that are
started two hundred times would otherwise spend most of the campaign importing PyTorch.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
from local_cluster import environment


class Launcher:
    """A process that forks drivers."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def launch(self, arguments: Sequence[str], log: Path) -> Driver:
        """Starts `das ARGUMENTS`, which writes all it says to ``log``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(arguments), str(log)]) + "\n")
        self._process.stdin.flush()
        return Driver(int(self._said()), self)

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Driver:
    """A running driver."""

    def __init__(self, pid: int, launcher: Launcher) -> None:
        self.pid, self._launcher = pid, launcher
        self._process = psutil.Process(pid)

    @property
    def has_ended(self) -> bool:
        try:
            return self._process.status() == psutil.STATUS_ZOMBIE or not self._process.is_running()
        except psutil.NoSuchProcess:
            return True

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def show_stacks(self) -> None:
        """Has it write where its threads are to its log."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def exit_code(self) -> int:
        """Its exit code; minus the signal's number if it was killed. Waits for its end."""
        return int(self._launcher._said())


def _serve() -> None:
    """Forks a driver for each line of standard input; prints its process id, then its exit code."""
    import ray.data
    import ray.train.torch
    import ray.tune
    import torch

    import distill_at_scale.pipelines as pipelines

    assert all((ray.data, ray.train.torch, ray.tune, torch))
    for module in pkgutil.iter_modules(pipelines.__path__, f"{pipelines.__name__}."):
        importlib.import_module(module.name)
    while line := sys.stdin.readline():
        arguments, log = json.loads(line)
        if (pid := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            faulthandler.register(signal.SIGUSR1, all_threads=True)
            sys.argv = ["das", *arguments]
            runpy.run_module("distill_at_scale", run_name="__main__")
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
