"""A live table of trials (done, running, failed, best so far, time left) on stderr: stdout is the result's."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

_PLAIN_EVERY_S = 15.0
_SHOWN = 8


class Board:
    """What is known of the trials of one part of a sweep.

    Attributes:
        name: of the part.
        total: trials in all.
        best_by: the number by which a trial is better than another; None: they are not compared.
    """

    def __init__(self, name: str, total: int, done: int = 0, best_by: str | None = None) -> None:
        """``done`` trials were done before."""
        self.name, self.total, self.best_by = name, total, best_by
        self._known, self._done, self._failed = done, done, 0
        self._running: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._best: tuple[float, str] | None = None
        self._start = self._said = time.monotonic()
        self._live: Live | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[Board]:
        """Shows the table while the block runs; a line now and then where there is no terminal."""
        console = Console(stderr=True)
        if console.is_terminal:
            with Live(get_renderable=self.table, console=console, refresh_per_second=2) as self._live:
                yield self
            self._live = None
        else:
            yield self
            self._say(f"{self._line()}, done in {time.monotonic() - self._start:.0f} s")

    def begin(self, key: str, labels: Mapping[str, Any]) -> None:
        """A trial runs."""
        self._running[key] = (time.monotonic(), labels)

    def end(self, key: str, failed: str, found: Mapping[str, Any]) -> None:
        """A trial is over; ``failed`` says why it found nothing, if so."""
        self._running.pop(key, None)
        self._failed += bool(failed)
        self._done += not failed
        value = found.get(self.best_by) if self.best_by and not failed else None
        if value is not None and (self._best is None or value > self._best[0]):
            self._best = (float(value), key)
        now = time.monotonic()
        if self._live is None and now - self._said >= _PLAIN_EVERY_S:
            self._said = now
            self._say(self._line())

    def table(self) -> Table:
        """The table as it is now."""
        table = Table(title=self._line(), title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
        for column in ("running", "for"):
            table.add_column(column)
        now = time.monotonic()
        for key, (since, labels) in list(self._running.items())[:_SHOWN]:
            named = "  ".join(f"{name} {value}" for name, value in labels.items()) or key
            table.add_row(named, f"{now - since:.0f} s")
        return table

    def _line(self) -> str:
        parts = [f"{self.name}: {self._done}/{self.total} done", f"{len(self._running)} running"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._best is not None:
            parts.append(f"best {self.best_by} {self._best[0]:.4f} ({self._best[1]})")
        ended = self._done + self._failed - self._known
        left = self.total - self._done - self._failed
        if ended and left > 0:
            parts.append(f"about {(time.monotonic() - self._start) / ended * left:.0f} s left")
        return ", ".join(parts)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
