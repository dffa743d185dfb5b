"""Logging of the package, to ``logging.getLogger("distill_at_scale")``.

The command line adds its own handler. In a script or notebook that has not configured logging, verbs show notes and
progress on standard error; any handler on that logger, even a ``NullHandler``, turns this off:

    logging.getLogger("distill_at_scale").addHandler(logging.NullHandler())
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from distill_at_scale.uris import redact_text

NAME = "distill_at_scale"
PACKAGE = logging.getLogger(NAME)


class SafeFormatter(logging.Formatter):
    """Removes credentials from addresses in messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class PlainFormatter(SafeFormatter):
    """Formats for people: notes (INFO) plainly, other messages with their level."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


class StderrHandler(logging.Handler):
    """Writes to the current ``sys.stderr``, which a progress bar replaces to print lines above itself."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.setFormatter(PlainFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # A single write, so that an interruption cannot separate a line from its end.
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _DefaultHandler(StderrHandler):
    """Shows the messages that the program's own logging would drop."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.root.handlers and record.levelno >= logging.root.level:
            logging.root.handle(record)
        else:
            super().emit(record)


@contextmanager
def shown_by_default() -> Iterator[None]:
    """Shows notes on standard error during the block, unless the command line or the program already shows them."""
    if PACKAGE.handlers or (PACKAGE.hasHandlers() and PACKAGE.isEnabledFor(logging.INFO)):
        yield
        return
    handler, before = _DefaultHandler(), (PACKAGE.level, PACKAGE.propagate)
    PACKAGE.addHandler(handler)
    if not PACKAGE.isEnabledFor(logging.INFO):
        PACKAGE.setLevel(logging.INFO)
    PACKAGE.propagate = False
    try:
        yield
    finally:
        PACKAGE.removeHandler(handler)
        PACKAGE.setLevel(before[0])
        PACKAGE.propagate = before[1]
