"""Writes to standard output, with one clear message if that fails (a full disk) and none for a closed pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def printed(write: Callable[[], None]) -> bool:
    """Calls ``write`` and returns whether its output was written; reports a failure on standard error.

    A closed pipe is not reported: a reader such as ``head`` closes it on purpose.
    """
    try:
        write()
        if sys.stdout is not None:
            sys.stdout.flush()
        return True
    except OSError as error:
        refuse(error)
        return False


def print_line(line: str) -> bool:
    """Prints one line on standard output; returns whether it was written."""
    return printed(lambda: print(line, flush=True))


def refuse(error: OSError) -> None:
    """Reports that standard output failed, and keeps Python from flushing it again at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        print(f"error: standard output cannot be written: {error.strerror or error}.", file=sys.stderr, flush=True)
