"""Where messages go: notes, warnings and errors to standard error, everything to a file if one is asked for.

The package only logs to ``logging.getLogger("distill_at_scale")`` and what is below it; handlers are the command
line's. Levels: DEBUG for -v and files, INFO for notes, WARNING and ERROR for what is shown with -q too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from distill_at_scale.errors import SettingError
from distill_at_scale.uris import redact_text

NAME = "distill_at_scale"


class _Safe(logging.Formatter):
    """Leaves credentials out of addresses, in messages and tracebacks alike."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class _Plain(_Safe):
    """For people: notes as they are, the rest with what it is."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


class _Stderr(logging.Handler):
    """Writes to what is standard error now: a progress bar that is shown puts itself there, and lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # One write: an interruption between a line and its end would put the next message behind it.
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


@contextmanager
def shown(quiet: bool = False, verbose: bool = False, file: str | None = None) -> Iterator[None]:
    """Shows messages while the block runs.

    Raises:
        SettingError: when the file cannot be written.
    """
    logger = logging.getLogger(NAME)
    stderr = _Stderr(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    stderr.setFormatter(_Plain("%(message)s"))
    handlers: list[logging.Handler] = [stderr]
    if file is not None:
        try:
            kept = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise SettingError(f"--log-file {file} cannot be written: {error.strerror}.") from None
        kept.setFormatter(_Safe("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(kept)
    before = (logger.level, logger.propagate)
    logger.setLevel(min(handler.level for handler in handlers) or logging.DEBUG)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]
