"""What the package warns of on workers, brought to the driver: nobody reads a worker's own log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

_LOGGER = logging.getLogger("distill_at_scale")


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@contextlib.contextmanager
def overhear() -> Iterator[list[str]]:
    """The warnings of this process while the block runs."""
    listener = _Listener()
    _LOGGER.addHandler(listener)
    try:
        yield listener.heard
    finally:
        _LOGGER.removeHandler(listener)


def repeat(heard: Iterable[str]) -> None:
    """Warns again, here."""
    for sentence in heard:
        _LOGGER.warning("%s", sentence)
