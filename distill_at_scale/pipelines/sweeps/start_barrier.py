"""A barrier at which workers start together; in its own file, since the actor's process imports only this."""

from __future__ import annotations


class StartBarrier:
    """Opens when as many workers have come as there is room for.

    Tune gives the next trial to a worker that has just become free, and ends the one that was being started for it.
    Trials that last less than such a start would so keep all workers but the first from ever coming up.
    """

    def __init__(self, expected: int) -> None:
        self._expected, self._came = expected, set[str]()

    def come(self, worker: str) -> bool:
        """A worker is there; whether the gate is open."""
        self._came.add(worker)
        return len(self._came) >= self._expected
