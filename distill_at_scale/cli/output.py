"""Standard output that cannot be written (a full disk, a reader that is gone) is one sentence, or none."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def printed(write: Callable[[], None]) -> bool:
    """Whether what ``write`` prints on standard output got there; says on standard error why not.

    A reader that takes no more, such as ``head``, knows that itself: of it nothing is said.
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
    """Prints one line on standard output; whether it got there."""
    return printed(lambda: print(line, flush=True))


def refuse(error: OSError) -> None:
    """Says that standard output failed, and keeps Python from trying again at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        print(f"error: standard output cannot be written: {error.strerror or error}.", file=sys.stderr, flush=True)
