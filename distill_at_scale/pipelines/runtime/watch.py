"""A thread that looks at something every few seconds while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Watch:
    """Calls a function every few seconds in a thread of its own, until it returns False or the watch ends.

    The thread does not keep the process alive.
    """

    def __init__(self, name: str, every_s: float, look: Callable[[], bool]) -> None:
        """``name`` is the thread's; ``look`` returns whether to go on. The first look comes after ``every_s``."""
        self._look, self._every_s = look, every_s
        self.over = threading.Event()
        """Set when the watch has ended; a look that takes long may wait for it."""
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, wait: bool = False) -> None:
        """Ends the watch; with ``wait``, after a look that is under way."""
        self.over.set()
        if wait and self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self.over.wait(self._every_s) and self._look():
            pass
