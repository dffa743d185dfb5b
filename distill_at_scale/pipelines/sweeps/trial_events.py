"""What happens to the trials of Ray Tune, told to listeners of this process.

Tune pickles its callbacks when a tuner is made, so that another process could restore them. They therefore hold the
name of a listener and never the listener itself, which may hold a display, a lock or a socket.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ray import tune

from distill_at_scale.pipelines.sweeps.trial_table import TrialTable

FAILED = "failed"
"""The number of a trial's report that is no number: why it failed, or ""."""


class Listener(Protocol):
    """Is told of Tune's trials."""

    def started(self, trial: Any) -> None:
        """A trial runs, perhaps not for the first time."""

    def completed(self, trial: Any) -> None:
        """A trial has ended, or has been stopped; ``trial.last_result`` is its last report."""

    def died(self, trial: Any) -> None:
        """A trial has been given up, since its worker died too often."""


_listeners: dict[str, Listener] = {}
_names = itertools.count()


@contextlib.contextmanager
def heard(listener: Listener) -> Iterator[tune.Callback]:
    """A callback for Tune, by which ``listener`` hears of the trials while the block runs."""
    name = str(next(_names))
    _listeners[name] = listener
    try:
        yield _Callback(name)
    finally:
        del _listeners[name]


class _Callback(tune.Callback):
    """Passes on what happens, to the listener of this name; to nobody once nobody listens any more."""

    def __init__(self, listener: str) -> None:
        self._listener = listener

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if listener := _listeners.get(self._listener):
            listener.started(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if listener := _listeners.get(self._listener):
            listener.completed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if listener := _listeners.get(self._listener):
            listener.died(trial)


class Follow:
    """Follows trials that have a key each: shows them on a board, and tells of each that ended."""

    def __init__(
        self,
        labels: Mapping[str, Mapping[str, Any]],
        board: TrialTable,
        on_done: Callable[[str, str], None],
        lives: int,
    ) -> None:
        """``labels`` by key; ``on_done`` gets the key and why the trial failed, or ""; it is given up after ``lives``
        workers."""
        self._labels, self._board, self._on_done, self._lives = labels, board, on_done, lives

    def started(self, trial: Any) -> None:
        key = trial.config["trial"]
        self._board.begin(key, self._labels[key])

    def completed(self, trial: Any) -> None:
        found = trial.last_result or {}
        if FAILED in found:  # one that the time budget stopped has found nothing
            self._end(trial.config["trial"], found[FAILED], found)

    def died(self, trial: Any) -> None:
        reason = f"its worker died {self._lives} times, perhaps because memory ran out"
        self._end(trial.config["trial"], reason, {})

    def _end(self, key: str, failed: str, found: Mapping[str, Any]) -> None:
        self._on_done(key, failed)
        self._board.end(key, failed, found)


class Watch:
    """Shows the trials of a search on a board."""

    def __init__(self, board: TrialTable) -> None:
        self._board = board

    def started(self, trial: Any) -> None:
        self._board.begin(trial.trial_id, {name: f"{value:.3g}" for name, value in trial.config.items()})

    def completed(self, trial: Any) -> None:
        found = trial.last_result or {}
        self._board.end(trial.trial_id, found.get(FAILED, ""), found)

    def died(self, trial: Any) -> None:
        self._board.end(trial.trial_id, "its worker died", {})
