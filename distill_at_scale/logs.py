"""What the package logs, to ``logging.getLogger("distill_at_scale")``, and where that is shown.

The command line adds a handler of its own. In a script or a notebook that has set up no logging, verbs show their notes
and progress on standard error; a handler on that logger, be it a ``NullHandler``, keeps them off it:

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
    """Leaves credentials out of addresses, in messages and tracebacks alike."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class PlainFormatter(SafeFormatter):
    """For people: notes as they are, the rest with its level."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


class StderrHandler(logging.Handler):
    """Writes to what is standard error now: a progress bar that is shown puts itself there, and lines above itself."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.setFormatter(PlainFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # One write: an interruption between a line and its end would put the next message behind it.
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _DefaultHandler(StderrHandler):
    """Shows what the program's own logging would not: all of it, or the notes where it takes only warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.root.handlers and record.levelno >= logging.root.level:
            logging.root.handle(record)
        else:
            super().emit(record)


@contextmanager
def shown_by_default() -> Iterator[None]:
    """Shows notes on standard error while the block runs, unless the command line or the program shows them itself."""
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
