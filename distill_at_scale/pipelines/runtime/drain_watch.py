"""Watches for nodes that are about to go, as clouds announce for spot machines, so that a checkpoint is written before.

Ray Train tells its own functions too, but only where all workers ask together, which would cost every step a barrier.
"""

from __future__ import annotations

import logging
import threading
from typing import Self

import ray

from distill_at_scale.pipelines.runtime.watch import Watch

log = logging.getLogger(__name__)

_POLL_S = 3.0


class DrainWatch:
    """Polls in a thread, while it is open, which of the cluster's nodes Ray drains."""

    def __init__(self, watching: bool = True) -> None:
        self._new, self._known = threading.Event(), set[str]()
        self._watch = Watch("das-drain-watch", _POLL_S, self._look) if watching else None

    def __enter__(self) -> Self:
        if self._watch is not None:
            self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.end(wait=True)

    def noticed(self) -> bool:
        """Returns whether a node began to drain since the last call."""
        if not self._new.is_set():
            return False
        self._new.clear()
        return True

    def _look(self) -> bool:
        try:
            # Ray's own: its public API tells only all workers of Ray Train together.
            draining = set(ray._private.state.state.get_draining_nodes())
        except Exception:
            # A notice that is missed costs half a minute of work, an error here would cost the run.
            log.debug("cannot ask for nodes that drain", exc_info=True)
            return True
        if draining - self._known:
            log.info("a node is about to go: writing a checkpoint")
            self._new.set()
        self._known |= draining
        return True
