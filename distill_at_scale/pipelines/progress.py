"""One line of progress a stage, with the time left; on stderr, so that stdout stays the result's."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

_PLAIN_EVERY_S = 15.0
_POLL_S = 0.5


class Stage(Protocol):
    """A running stage: tell it what is done."""

    def advance(self, steps: int = 1) -> None:
        """``steps`` more are done."""


@contextmanager
def stage(name: str, total: int, shown: bool = True) -> Iterator[Stage]:
    """Shows a stage of ``total`` steps while the block runs: a bar on a terminal, a line now and then in a log."""
    console = Console(stderr=True, quiet=not shown)
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=total)

            class _Bar:
                def advance(self, steps: int = 1) -> None:
                    bar.advance(task, steps)

            yield _Bar()
    else:
        plain = _Plain(name, total)
        yield plain
        if shown:
            plain.close()


Tell = Callable[[float, str], None]
"""Called in a worker with the share done (0 to 1) and what is being done."""


@contextmanager
def relay(stage: Stage, steps: int) -> Iterator[Tell]:
    """A function that a task elsewhere calls with its progress; ``stage`` of ``steps`` steps follows it here."""
    import ray

    board: Any = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")(_Board).remote()
    done, over = 0, threading.Event()

    def follow() -> None:
        nonlocal done
        while not over.wait(_POLL_S):
            with contextlib.suppress(ray.exceptions.RayError):
                now = int(ray.get(board.share.remote(), timeout=_POLL_S) * steps)
                stage.advance(max(now - done, 0))
                done = max(done, now)

    def tell(share: float, what: str) -> None:
        board.tell.remote(share)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield tell
        over.set()
        follower.join()
        stage.advance(steps - done)
    finally:
        over.set()
        ray.kill(board)


class _Board:
    """Where a worker leaves how far it is."""

    def __init__(self) -> None:
        self._share = 0.0

    def tell(self, share: float) -> None:
        self._share = share

    def share(self) -> float:
        return self._share


class _Plain:
    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._start = self._said = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._said >= _PLAIN_EVERY_S and 0 < self._done < self._total:
            left = (now - self._start) / self._done * (self._total - self._done)
            self._say(f"{self._done}/{self._total}, about {left:.0f} s left")
            self._said = now

    def close(self) -> None:
        self._say(f"{self._done}/{self._total}, done in {time.monotonic() - self._start:.1f} s")

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)
