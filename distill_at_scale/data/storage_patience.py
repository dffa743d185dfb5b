"""How long a storage server that does not answer is asked again, and what a process knows of each.

A server that has answered this process before is asked again, with growing pauses, and so is one that workers are told
to expect. One that never answered is a wrong address: that is said at once.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from distill_at_scale.data.storage_errors import shown

log = logging.getLogger(__name__)

PATIENCE = "DAS_STORAGE_PATIENCE"
"""Environment variable: seconds for which a server that does not answer is asked again, from the first request on."""
DEFAULT_PATIENCE_S = 300.0


class Server:
    """What this process knows of a server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._has_answered = False
        self._away_since: float | None = None

    def answered(self) -> None:
        """Notes that it is there."""
        if self._has_answered and self._away_since is None:
            return
        with self._lock:
            away, self._away_since, self._has_answered = self._away_since, None, True
        if away is not None:
            log.warning("%s answers again after %.0f s.", self.name, time.monotonic() - away)

    def is_worth_waiting(self, error: Exception) -> bool:
        """Notes that it is away, and says so once. Returns whether it is to be asked again."""
        given = os.environ.get(PATIENCE)
        patience = float(given) if given else DEFAULT_PATIENCE_S if self._has_answered else 0.0
        if not patience:
            return False
        with self._lock:
            first, self._away_since = self._away_since is None, self._away_since or time.monotonic()
            waited = time.monotonic() - self._away_since
        if first:
            log.warning("%s does not answer (%s); trying again for %.0f s.", self.name, shown(error), patience)
        return waited < patience
