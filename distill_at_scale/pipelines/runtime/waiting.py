"""Nodes that work needs: asked for, waited for in view, and given back.

A placement group asks: an autoscaler starts nodes for it, other drivers' requests stand beside it, and it goes with the
driver that made it, however that ends. While the work runs, a thread looks whether its nodes are still there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

from distill_at_scale import signals
from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import autoscaler, progress, resources
from distill_at_scale.pipelines.runtime.resources import Need
from distill_at_scale.pipelines.runtime.watch import Watch
from distill_at_scale.validation import seconds

# Seconds without nodes after which a note is logged; after the last, one a minute.
_NOTES_S = (10.0, 30.0, 60.0)
_POLL_S = 1.0
_LOOK_S = 5.0
# Seconds after which it is asked again whether a lost node may come back.
_AGAIN_S = 60.0

_limit: ContextVar[float | None] = ContextVar("wait_for_nodes", default=None)


@contextlib.contextmanager
def patience(given: str | None) -> Iterator[None]:
    """Has the block wait for nodes no longer than ``given``, such as 10m; None: as long as it takes."""
    before = _limit.set(None if given is None else seconds(given))
    try:
        yield
    finally:
        _limit.reset(before)


@contextlib.contextmanager
def provided(need: Need) -> Iterator[None]:
    """Runs the block with nodes that hold ``need``; a node that is lost meanwhile is waited for, too.

    Raises:
        ClusterError: when no node that there could be holds it, or the nodes do not come in time.
    """
    if not resources.is_up().holds(need):
        resources.require(need)
        _wait(need)
    nodes = _Nodes(need)
    try:
        yield
    except KeyboardInterrupt:
        # The watch's own interruption, where the process has another handler than ours.
        if nodes.error is not None:
            raise nodes.error from None
        raise
    finally:
        nodes.end()


def _wait(need: Need) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    group, wait = placement_group([need.bundle] * need.count, strategy="PACK"), _Wait(need)
    # A node that was lost is not expected back for ever; what an autoscaler can start stays what it is.
    lost, again = not resources.could_be().holds(need), time.monotonic() + _AGAIN_S
    try:
        while not (group.wait(_POLL_S) or resources.is_up().holds(need)):
            if error := wait.look():
                raise error
            if lost and time.monotonic() > again:
                resources.require(need)
                again = time.monotonic() + _AGAIN_S
    finally:
        remove_placement_group(group)


class _Wait:
    """A wait for nodes that tells how it stands."""

    def __init__(self, need: Need) -> None:
        self._need, self._limit, self._start, self._told = need, _limit.get(), time.monotonic(), 0

    def look(self) -> ClusterError | None:
        """Says what is asked for, up and coming, when it is time to; an error when the wait has been too long."""
        waited = time.monotonic() - self._start
        if self._limit is not None and waited >= self._limit:
            return ClusterError(
                f"The nodes did not come within {progress.in_words(self._limit)} (--wait-for-nodes): {self._state()}; "
                "wait longer, or ask for less."
            )
        if waited >= (_NOTES_S[self._told] if self._told < len(_NOTES_S) else self._next):
            self._told, self._next = self._told + 1, waited + _NOTES_S[-1]
            progress.say(f"waiting for nodes since {progress.in_words(waited)}: {self._state()}")
        return None

    _next = 0.0

    def _state(self) -> str:
        coming = autoscaler.coming()
        come = ", ".join(f"{count} of type {name}" for name, count in sorted(coming.items())) or "none"
        return f"{self._need} asked for; {resources.is_up()} up; coming: {come}"


class _Nodes:
    """The nodes of work that runs, which a thread looks after."""

    def __init__(self, need: Need) -> None:
        self.error: ClusterError | None = None
        self._need, self._lock = need, threading.Lock()
        # Only a main thread can be interrupted; another one, as of a trial, is told of by the driver above it.
        self._main = threading.current_thread() is threading.main_thread()
        self._wait: _Wait | None = None
        self._limit = _limit.get()
        self._watch = Watch("das-nodes", _LOOK_S, self._look).__enter__()

    def end(self) -> None:
        # Not between the decision to interrupt the block and the interruption.
        with self._lock:
            self._watch.end()

    def _look(self) -> bool:
        _limit.set(self._limit)
        # A cluster that does not answer is another's to tell of.
        with contextlib.suppress(Exception):
            if resources.is_up().holds(self._need):
                self._wait = None
                return True
            self._wait = self._wait or _Wait(self._need)
            error = self._wait.look()
            with self._lock:
                if error is not None and self._main and not self._watch.over.is_set():
                    self.error = error
                    signals.raise_in_main(error)
                    return False
        return True
