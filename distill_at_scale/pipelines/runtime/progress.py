"""One line of progress a stage, with the time left; on standard error, so that standard output stays the result's."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from distill_at_scale import logs

_LOG = logging.getLogger(__name__)
_PLAIN_EVERY_S = 15.0
_POLL_S = 0.5
_LAST_LOOK_S = 5.0
_NAME, _BAR = 24, 40
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TURNS_PER_S = 5
# The first steps to end say little about the rest: an estimate waits for these seconds and steps, and a share of
# all steps, or for a minute.
_ESTIMATE_S, _ESTIMATE_STEPS, _ESTIMATE_SHARE, _ESTIMATE_AT_LAST_S = 5.0, 2, 0.05, 60.0


def say(text: str) -> None:
    """Logs a note; where neither the command line nor the program shows the log, it appears on standard error."""
    with logs.shown_by_default():
        _LOG.info("%s", text)


def terminal() -> Console | None:
    """Standard error, where lines can be shown that change; None in a file, a pipe or a notebook, and with --quiet."""
    if any(handler.level > logging.INFO for handler in logs.PACKAGE.handlers):
        return None
    console = Console(stderr=True, highlight=False)
    # FORCE_COLOR makes a terminal out of a file, in which moving the cursor would leave every frame.
    moving = console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty()
    return console if moving else None


class TimeLeft:
    """How long steps will still take, once that means something."""

    def __init__(self, total: int, known: int = 0) -> None:
        """``known`` of ``total`` steps were done before."""
        self.total, self._known, self._start = total, known, time.monotonic()

    def skip(self, steps: int) -> None:
        """Counts the steps that an earlier run has done."""
        self._known += steps
        self._start = time.monotonic()

    def seconds(self, done: int, running: int = 0) -> float | None:
        """Estimates the seconds left after ``done`` steps, while ``running`` more are under way; None: too early."""
        elapsed, ended, left = time.monotonic() - self._start, done - self._known, self.total - done
        # Of steps that run at once the first to end are the shortest.
        few = ended < max(_ESTIMATE_STEPS, running + 1) or ended < _ESTIMATE_SHARE * (self.total - self._known)
        if left <= 0 or elapsed < _ESTIMATE_S or (few and (ended < 1 or elapsed < _ESTIMATE_AT_LAST_S)):
            return None
        return elapsed / ended * left

    def words(self, done: int, running: int = 0) -> str:
        """``about 3 min left``, or "" as long as it is too early."""
        seconds = self.seconds(done, running)
        return "" if seconds is None else f"about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """``40 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Stage(Protocol):
    """A running stage: tell it what is done."""

    def advance(self, steps: int = 1) -> None:
        """``steps`` more are done."""

    def skip(self, steps: int) -> None:
        """``steps`` more were done by an earlier run."""


@contextmanager
def stage(name: str, total: int, shown: bool = True) -> Iterator[Stage]:
    """Shows a stage of ``total`` steps while the block runs: a bar on a terminal, a line now and then in a log."""
    console = terminal() if shown else None
    if console is None:
        plain = _Plain(name, total)
        yield plain
        if shown:
            plain.close()
        return
    bar = _Bar(name, total)
    # Measured at every frame: the window may be resized.
    with Live(get_renderable=lambda: bar.line(console.width), console=console, refresh_per_second=_TURNS_PER_S):
        yield bar
        bar.close()
    _LOG.debug("%s: %s/%s, done in %.1f s", name, bar.done, total, time.monotonic() - bar.start)


class _Steps:
    """Counts the steps of a stage."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.start, self.left = time.monotonic(), TimeLeft(total)

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def skip(self, steps: int) -> None:
        self.left.skip(steps)
        self.advance(steps)


class _Bar(_Steps):
    """On a terminal."""

    _closed = False

    def close(self) -> None:
        self._closed = True

    def line(self, width: int) -> Text:
        """The stage in one line of at most ``width`` columns; the bar gets narrower first, then the line is cut."""
        elapsed = time.monotonic() - self.start
        spinner = " " if self._closed else _SPINNER[int(elapsed * _TURNS_PER_S) % len(_SPINNER)]
        says = in_words(elapsed) if self._closed else self.left.words(self.done)
        before, after = f"{spinner} {self.name:<{_NAME}} ", f" {self.done:,}/{self.total:,}  {says}".rstrip()
        room = min(_BAR, width - len(before) - len(after))
        full = int(room * self.done / self.total) if self.total else room
        bar = [("━" * full, "green"), ("━" * (room - full), "dim")] if room >= 4 else []
        return Text.assemble(before, *bar, after, no_wrap=True, overflow="ellipsis")


class _Plain(_Steps):
    """In a log."""

    def __init__(self, name: str, total: int) -> None:
        super().__init__(name, total)
        self._said = self.start

    def advance(self, steps: int = 1) -> None:
        super().advance(steps)
        now = time.monotonic()
        if now - self._said >= _PLAIN_EVERY_S and 0 < self.done < self.total:
            says = self.left.words(self.done)
            self._say(f"{self.done}/{self.total}{', ' if says else ''}{says}")
            self._said = now

    def close(self) -> None:
        self._say(f"{self.done}/{self.total}, done in {time.monotonic() - self.start:.1f} s")

    def _say(self, text: str) -> None:
        say(f"{self.name}: {text}")


OnProgress = Callable[[float, str], None]
"""Called in a worker with the share done (0 to 1) and what is being done."""


_board: ContextVar[Any] = ContextVar("_board", default=None)


def board() -> Any:
    """Returns the actor to which workers report warnings within a block of :func:`relay`; None outside of one."""
    return _board.get()


@contextmanager
def relay(stage: Stage, steps: int) -> Iterator[OnProgress]:
    """A function that a task elsewhere calls with its progress; ``stage`` of ``steps`` steps follows it here.

    What workers warn of on :func:`board` is said here at once.
    """
    import ray

    board: Any = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")(_Board).remote()
    done, said, over = 0, 0, threading.Event()

    def look(patience: float) -> None:
        nonlocal done, said
        with contextlib.suppress(ray.exceptions.RayError):
            share, warnings = ray.get(board.news.remote(said), timeout=patience)
            for sentence in warnings:
                _LOG.warning("%s", sentence)
            said += len(warnings)
            now = int(share * steps)
            # The first that is told may be what a checkpoint held.
            (stage.advance if done else stage.skip)(max(now - done, 0))
            done = max(done, now)

    def follow() -> None:
        while not over.wait(_POLL_S):
            look(_POLL_S)

    def on_progress(share: float, what: str) -> None:
        board.on_progress.remote(share)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    token = _board.set(board)
    try:
        yield on_progress
        over.set()
        follower.join()
        look(_LAST_LOOK_S)
        stage.advance(steps - done)
    finally:
        _board.reset(token)
        over.set()
        ray.kill(board)


class _Board:
    """Where a worker leaves how far it is, and what it warns of."""

    def __init__(self) -> None:
        self._share = 0.0
        self._warnings: list[str] = []

    def on_progress(self, share: float) -> None:
        self._share = share

    def warn(self, sentence: str) -> None:
        self._warnings.append(sentence)

    def news(self, after: int) -> tuple[float, list[str]]:
        """The share that is done, and the warnings after the first ``after``."""
        return self._share, self._warnings[after:]
