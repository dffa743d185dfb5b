"""Forwards warnings of the package from workers to the driver, since workers' logs are rarely read."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

_LOGGER = logging.getLogger("distill_at_scale")
_PATIENCE_S = 5.0


class _Listener(logging.Handler):
    def __init__(self, board: Any) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_told(record.getMessage()):
            self.heard.append(record.getMessage())

    def _is_told(self, sentence: str) -> bool:
        """Whether the driver has it already."""
        if self._board is None:
            return False
        import ray

        try:
            ray.get(self._board.warn.remote(sentence), timeout=_PATIENCE_S)
        except ray.exceptions.RayError:
            return False
        return True


@contextlib.contextmanager
def overhear(board: Any = None) -> Iterator[list[str]]:
    """Collects the warnings of this process during the block.

    Args:
        board: From :func:`~distill_at_scale.pipelines.runtime.progress.board`: the driver says them at once,
            and only those that do not reach it are gathered.
    """
    listener = _Listener(board)
    _LOGGER.addHandler(listener)
    try:
        yield listener.heard
    finally:
        _LOGGER.removeHandler(listener)


def repeat(heard: Iterable[str]) -> None:
    """Logs the warnings in this process."""
    for sentence in heard:
        _LOGGER.warning("%s", sentence)
