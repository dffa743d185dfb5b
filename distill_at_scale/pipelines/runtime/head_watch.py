"""Watches the cluster's head while a verb runs, since Ray itself ends a driver without a word that Python could catch.

A driver that has lost the head hangs in whatever it waits for. Ray waits a minute for a head that is started again,
then ends the process from C++. Shortly before that, the verb is interrupted here, and says one sentence.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

from distill_at_scale import signals
from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import progress, session
from distill_at_scale.pipelines.runtime.watch import Watch

log = logging.getLogger(__name__)

_POLL_S, _ANSWER_S = 3.0, 3.0
_GRACE_S = 8.0
_NOTE_AFTER_S = 8.0
# Ray's own setting and default, and how long before that the verb is to end.
_RAYS_LIMIT, _RAYS_DEFAULT_S, _BEFORE_S = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0, 15.0


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Interrupts the block when the head of this process's cluster has been away for too long.

    Needs a Ray session. Only a main thread can be interrupted; elsewhere nothing is watched.

    Raises:
        ClusterError: the head is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import ray

    address = ray.get_runtime_context().gcs_address
    head = _Head(address)
    with head.watch:
        try:
            yield
        except BaseException as error:
            # What else is raised when the head is gone follows from that.
            if not head.is_lost.is_set():
                raise
            session.abandon()
            raise ClusterError(head.sentence) from (error if isinstance(error, Exception) else None)


class _Head:
    """The head of a cluster, as far as it answers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.sentence = (
            f"The head of the Ray cluster at {address} is gone; start it, and run the same command again to go on."
        )
        self.is_lost, self.watch = threading.Event(), Watch("das-head-watch", _POLL_S, self._look)
        self._limit = float(os.environ.get(_RAYS_LIMIT) or _RAYS_DEFAULT_S) - _BEFORE_S
        self._answered, self._noted = time.monotonic(), False

    def _look(self) -> bool:
        """Interrupts the verb when the head is lost; returns whether it is not."""
        if self._answers():
            self._answered, self._noted = time.monotonic(), False
            return True
        away = time.monotonic() - self._answered
        if away >= self._limit:
            self.is_lost.set()
            signals.interrupt(self.sentence)
            if not self.watch.over.wait(_GRACE_S):
                # Ray's own calls to the head do not return, and cannot be interrupted.
                signals.give_up()
                log.error("%s", self.sentence)
            return False
        if away >= _NOTE_AFTER_S and not self._noted:
            self._noted = True
            progress.say(
                f"the head of the Ray cluster at {self._address} does not answer; waiting for {self._limit:.0f} s…"
            )
        return True

    def _answers(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S):
                return True
        except OSError:
            return False
