"""Forwards warnings of the package from workers to the driver, since workers' logs are rarely read."""

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
    """Collects the warnings of this process during the block."""
    listener = _Listener()
    _LOGGER.addHandler(listener)
    try:
        yield listener.heard
    finally:
        _LOGGER.removeHandler(listener)


def repeat(heard: Iterable[str]) -> None:
    """Logs the warnings in this process."""
    for sentence in heard:
        _LOGGER.warning("%s", sentence)
