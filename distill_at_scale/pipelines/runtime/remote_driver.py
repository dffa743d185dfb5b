"""Verbs of a process that is connected by Ray Client (``ray://``): an actor without CPUs runs them on the cluster.

Such a process can start tasks and actors, but Ray Data, Train and Tune need a driver. So an actor on the head
node is the verb's driver. Its notes and progress come back while it runs, then its result or its error. It ends with
the client: by Ctrl-C, and when this process ends or loses its connection.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distill_at_scale import logs
from distill_at_scale.config.values import ClusterConfig
from distill_at_scale.errors import ClusterError, DasError
from distill_at_scale.pipelines.runtime import local_paths, session
from distill_at_scale.settings import settle

R = TypeVar("R")

SCHEME = "ray://"
# Ray's own name for the node that runs the head, where `ray job submit` starts its drivers as well.
_HEAD = {"node:__internal_head__": 0.001}
_POLL_S = 0.3


def is_needed(address: str | None) -> bool:
    """Whether verbs have to run on the cluster: this process is connected by Ray Client, or would be."""
    if session.is_client():
        return True
    would = address or os.environ.get("RAY_ADDRESS", "")
    return would.startswith(SCHEME) and not session.is_connected()


def run(launch: Callable[..., R], function: Callable[..., R], config: ClusterConfig, held: Mapping[str, Any]) -> R:
    """``launch(function, config, **held)`` by an actor on the cluster; repeats its notes here while it runs.

    Args:
        launch: :func:`~distill_at_scale.pipelines.runtime.launch.launch`.
        function: as that takes it.

    Raises:
        DasError: the one that it raised; a ClusterError where the connection is lost.
        KeyboardInterrupt: after the actor and what it had started were ended.
    """
    config = local_paths.absolute(config)
    with session.ensure(config.address), local_paths.visible(config):
        import ray

        driver = _started()
        job = config.model_copy(update={"address": None})
        try:
            running: Any = driver.run.remote(launch, function.__module__, function.__qualname__, job, held)
            done: list[Any] = []
            while not done:
                done, _ = ray.wait([running], timeout=_POLL_S)
                for level, text in ray.get(driver.notes.remote()):
                    logs.PACKAGE.log(level, "%s", text)
            outcome: Any = ray.get(running)
        except ConnectionError as error:
            _end(driver)
            raise ClusterError(
                "The connection to the Ray cluster is lost, and with it the run; run the same command again to go on."
            ) from error
        except BaseException:
            # All that it owns, tasks and actors, ends with it.
            _end(driver)
            raise
        return outcome.take(function.__name__)


_driver: tuple[str, Any] | None = None
"""The job of this process on the cluster, and its driver there: one serves all verbs, as a notebook's process would."""


def _started() -> Any:
    """The driver of this session, started if there is none."""
    global _driver
    import ray

    job = ray.get_runtime_context().get_job_id()
    if _driver is None or _driver[0] != job:
        actor: Any = ray.remote(_Driver)
        level = logs.PACKAGE.getEffectiveLevel()
        _driver = job, actor.options(num_cpus=0, resources=_HEAD, max_concurrency=2).remote(level)
    return _driver[1]


def _end(driver: Any) -> None:
    global _driver
    import ray

    _driver = None
    with contextlib.suppress(Exception):  # as where the connection is lost
        ray.kill(driver)


@dataclass
class _Outcome:
    """What a verb gave, or its failure, kept whole: Ray would put the whole traceback into the error."""

    result: Any = None
    error: DasError | None = None
    bug: str = field(default="")
    """Traceback of anything else."""

    def take(self, verb: str) -> Any:
        if self.error is not None:
            raise self.error
        if self.bug:
            raise RuntimeError(f"{verb} failed on the cluster:\n{self.bug}")
        return self.result


class _Notes(logging.Handler):
    """The notes of a driver, which its client fetches."""

    def __init__(self) -> None:
        super().__init__()
        self._said: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self._said.put((record.levelno, record.getMessage()))

    def fetch(self) -> list[tuple[int, str]]:
        """Level and text of what was said since the last call."""
        return [self._said.get() for _ in range(self._said.qsize())]


class _Driver:
    """A verb's driver: one thread runs it, another one answers how far it is."""

    def __init__(self, level: int) -> None:
        session.act_for_client()
        self._notes, self._one_at_a_time = _Notes(), threading.Lock()
        logs.PACKAGE.addHandler(self._notes)
        logs.PACKAGE.setLevel(level)

    def run(
        self, launch: Callable[..., Any], module: str, name: str, config: ClusterConfig, held: Mapping[str, Any]
    ) -> _Outcome:
        with self._one_at_a_time:
            try:
                # Validated again, which imports the plugins that it names.
                config = settle(type(config), None, {name: getattr(config, name) for name in config.model_fields_set})
                # A verb itself would pass through launch a second time.
                function = getattr(importlib.import_module(module), name)
                result = launch(getattr(function, "__wrapped__", function), config, **held)
                return _Outcome(result)
            except DasError as error:
                return _Outcome(error=error)
            except Exception:
                return _Outcome(bug=traceback.format_exc())

    def notes(self) -> list[tuple[int, str]]:
        """Level and text of what was said since the last call."""
        return self._notes.fetch()
