"""Events of Ray Tune's trials, forwarded to listeners in this process.

Tune pickles its callbacks when a tuner is created, so that another process could restore them. Callbacks therefore hold
the name of a listener, never the listener itself, which may hold a display, a lock or a socket.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ray import tune

from distill_at_scale.pipelines.sweeps.mlflow_runs import MlflowRuns
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable

FAILED = "failed"
"""Field of a trial's report that holds text instead of a number: why it failed, or ""."""
METRIC, ROUND = "validation", "round"
"""Fields that a trial of a search reports: its best metric so far, and the number of rounds."""


def died(times: int) -> str:
    """Returns why a trial was abandoned whose worker died so often."""
    return f"its worker died {times} times, perhaps because memory ran out"


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
    """Yields a callback for Tune that forwards events to ``listener`` during the block."""
    name = str(next(_names))
    _listeners[name] = listener
    try:
        yield _Callback(name)
    finally:
        del _listeners[name]


class _Callback(tune.Callback):
    """Forwards events to the listener of a name, if it is registered."""

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
    """Follows trials with a key each: shows them in the trial table, and reports each that ended."""

    def __init__(
        self,
        labels: Mapping[str, Mapping[str, Any]],
        board: TrialTable,
        on_start: Callable[[str], None],
        on_done: Callable[[str, str], None],
        lives: int,
    ) -> None:
        """``labels`` by key; ``on_start`` gets the key; ``on_done`` gets the key and why the trial failed, or "".

        A trial is abandoned after ``lives`` dead workers.
        """
        self._labels, self._board, self._lives = labels, board, lives
        self._on_start, self._on_done = on_start, on_done

    def started(self, trial: Any) -> None:
        key = trial.config["trial"]["key"]
        self._on_start(key)
        self._board.begin(key, self._labels[key])

    def completed(self, trial: Any) -> None:
        found = trial.last_result or {}
        if FAILED in found:  # absent if the time budget stopped the trial
            self._end(trial.config["trial"]["key"], found[FAILED], found)

    def died(self, trial: Any) -> None:
        self._end(trial.config["trial"]["key"], died(self._lives), {})

    def _end(self, key: str, failed: str, found: Mapping[str, Any]) -> None:
        self._on_done(key, failed)
        self._board.end(key, failed, found)


class Watch:
    """Shows the trials of a search in the trial table, and writes them to MLflow."""

    def __init__(
        self,
        board: TrialTable,
        runs: MlflowRuns,
        about: Mapping[str, Any],
        rounds: int,
        deadline: float | None,
    ) -> None:
        """``about`` are parameters of every run; ``rounds`` is the number of rounds of a trial that is not stopped.

        Trials that have not reached it at ``deadline`` (:func:`time.time`) were killed.
        """
        self._board, self._runs, self._about = board, runs, about
        self._rounds, self._deadline = rounds, deadline

    def started(self, trial: Any) -> None:
        self._board.begin(trial.trial_id, {name: f"{value:.3g}" for name, value in trial.config.items()})
        self._runs.begin(self._params(trial))

    def completed(self, trial: Any) -> None:
        found = trial.last_result or {}
        failed = found.get(FAILED, "")
        self._board.end(trial.trial_id, failed, found)
        late = self._deadline is not None and time.time() >= self._deadline and found.get(ROUND, 0) < self._rounds
        self._end(trial, found, "FAILED" if failed else "KILLED" if late else "FINISHED")

    def died(self, trial: Any) -> None:
        self._board.end(trial.trial_id, "its worker died", {})
        self._end(trial, trial.last_result or {}, "FAILED")

    def _params(self, trial: Any) -> dict[str, Any]:
        return {**self._about, "trial": trial.trial_id, **trial.config}

    def _end(self, trial: Any, found: Mapping[str, Any], status: str) -> None:
        metrics = {name: found[name] for name in (METRIC, ROUND) if name in found}
        self._runs.write(self._params(trial), metrics, status)
