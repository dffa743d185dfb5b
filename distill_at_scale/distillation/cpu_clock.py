"""CPU time of a run that may have been restarted."""

from __future__ import annotations

import time


class CpuClock:
    """Counts the CPU-seconds of this process from now on, in addition to those before a restored checkpoint."""

    def __init__(self, before: float = 0.0) -> None:
        self._before, self._start = before, time.process_time()

    @property
    def seconds(self) -> float:
        """CPU-seconds so far."""
        return self._before + time.process_time() - self._start
