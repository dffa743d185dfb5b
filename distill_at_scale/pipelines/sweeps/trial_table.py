"""A live table of trials (done, running, failed, best so far, time left) on stderr: stdout is the result's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.text import Text

from distill_at_scale import signals
from distill_at_scale.pipelines.runtime import progress

_PLAIN_EVERY_S = 15.0
_SHOWN = 8
_GAP, _TIMES = "  ", 6


class TrialTable:
    """State of the trials of one part of a sweep.

    Attributes:
        name: Name of the part.
        total: Total number of trials.
        best_by: Metric by which trials are compared; None: they are not compared.
    """

    def __init__(self, name: str, total: int, done: int = 0, best_by: str | None = None) -> None:
        """``done`` trials were done before."""
        self.name, self.total, self.best_by = name, total, best_by
        self._done, self._failed = done, 0
        self._running: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._best: tuple[float, str] | None = None
        self._start = self._said = time.monotonic()
        self._left = progress.TimeLeft(total, done)
        self._live: Live | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[TrialTable]:
        """Shows the table while the block runs; without a terminal, prints a line now and then."""
        console = progress.terminal()
        if console is not None:
            # Measured at every frame: the window may be resized.
            with Live(
                get_renderable=lambda: self.table(console.width), console=console, refresh_per_second=2
            ) as self._live:
                yield self
            self._live = None
        else:
            yield self
            progress.say(f"{self._line()}, done in {time.monotonic() - self._start:.0f} s")

    def begin(self, key: str, labels: Mapping[str, Any]) -> None:
        """A trial runs."""
        self._running[key] = (time.monotonic(), labels)

    def end(self, key: str, failed: str, found: Mapping[str, Any]) -> None:
        """A trial is over; ``failed`` says why it found nothing, if so."""
        _, labels = self._running.pop(key, (0.0, {}))
        self._failed += bool(failed)
        self._done += not failed
        value = found.get(self.best_by) if self.best_by and not failed else None
        if value is not None and (self._best is None or value > self._best[0]):
            self._best = (float(value), _named(key, labels))
        now = time.monotonic()
        if self._live is None and now - self._said >= _PLAIN_EVERY_S:
            self._said = now
            progress.say(self._line())

    def table(self, width: int) -> Group:
        """The table as it is now, ``width`` columns wide: its state in a line, and a line for each trial that runs."""
        state = Text(self._line(), no_wrap=True, overflow="ellipsis")
        now, running = time.monotonic(), list(self._running.items())
        rows = [(_named(key, labels), progress.in_words(now - since)) for key, (since, labels) in running[:_SHOWN]]
        if len(running) > _SHOWN:
            rows.append((f"and {len(running) - _SHOWN:,} more", ""))
        room = min(max((cell_len(name) for name, _ in rows), default=0), max(1, width - _TIMES - len(_GAP)))
        return Group(state, *(_row(name, duration, room) for name, duration in rows))

    def _line(self) -> str:
        """The state, what matters most first."""
        parts = [f"{self._done}/{self.total} done", f"{len(self._running)} running"]
        if signals.pending():
            # Ending all trials takes some seconds.
            parts.insert(0, "stopping")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if left := self._left.words(self._done + self._failed, len(self._running)):
            parts.append(left)
        if self._best is not None:
            parts.append(f"best {self.best_by} {self._best[0]:.4f} ({self._best[1]})")
        return f"{self.name}: {', '.join(parts)}"


def _row(name: str, duration: str, room: int) -> Text:
    cut = Text(name)
    cut.truncate(room, overflow="ellipsis", pad=True)
    return Text.assemble(cut, _GAP, (f"{duration:>{_TIMES}}", "dim"), no_wrap=True, overflow="ellipsis")


def _named(key: str, labels: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {value}" for name, value in labels.items()) or key
