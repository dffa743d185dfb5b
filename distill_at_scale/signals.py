"""Ctrl-C (SIGINT) and SIGTERM: both end a verb with one sentence and exit code 130.

A signal becomes a KeyboardInterrupt in the main thread, so that every block on the way out closes what it opened: the
progress display, the Ray session. Libraries below us install handlers of their own, after which Ctrl-C means something
else (Ray Tune returns as if it were done, Ray Train keeps its handler for good, Ray's start exits with 1). They are
called inside :func:`kept`, which puts the handlers back, or inside :func:`deferred`, which waits with the interruption
until the library has ended its work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

MESSAGE = "interrupted; run the same command again to go on."
CODE = 130
"""Exit code of a verb that was interrupted: 128 + SIGINT, as a shell has it."""

# The way out may take so long; what still runs then is killed.
_PATIENCE_S = 25.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Ending:
    """The handler of a process that ends when it is interrupted."""

    def __init__(self) -> None:
        self.interrupted = False
        self._watching = False

    def __call__(self, signum: int, frame: Any) -> None:
        if self.interrupted:
            # Asked for again: do not wait for anything.
            _end_now()
        self.interrupted = True
        self.watch()
        raise KeyboardInterrupt

    def watch(self) -> None:
        """Kills the process if it has not ended in a while: a KeyboardInterrupt may get lost in a library."""
        if not self._watching:
            self._watching = True
            watchdog = threading.Timer(_PATIENCE_S, _end_now)
            watchdog.daemon = True
            watchdog.start()


_ending: _Ending | None = None
_deferred: list[int] = []
"""Signals that came in a block that defers them."""


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turns an interruption of the block into :data:`MESSAGE` on standard error and exit code 130.

    For the main function of a process, and its main thread. However the block ends after a signal (also normally, or by
    an error that the signal caused), the exit code is 130. A second signal, or 25 s without an end, kills the process
    and all that it started.

    Raises:
        SystemExit: with code 130, when the block was interrupted.
    """
    global _ending
    if _ending is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _ending = me = _Ending()
    before = {number: signal.signal(number, me) for number in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        me.interrupted = True
    except BaseException:
        if not me.interrupted:
            raise
    finally:
        _ending = None
        for number, handler in before.items():
            signal.signal(number, handler)
    if me.interrupted:
        with contextlib.suppress(OSError, ValueError):
            # In its own line of a terminal, which shows "^C" where the cursor was.
            print(("\r" if sys.stderr.isatty() else "") + MESSAGE, file=sys.stderr, flush=True)
        # CPython remembers an interruption that passed through the exec of a text (which makes data classes, so that
        # imports are full of it), and then ends by the signal instead of the exit code; the next exec forgets it.
        exec("")
        raise SystemExit(CODE)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Puts the handlers back that the block has replaced; those of a process that ends by :func:`ending` only."""
    if _ending is None:
        yield
        return
    me = _ending
    try:
        yield
    except SystemExit as left:
        # A handler of Ray's, which was installed for a moment.
        me.interrupted = True
        raise KeyboardInterrupt from left
    finally:
        for number in _SIGNALS:
            signal.signal(number, me)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Holds an interruption back until the block ends, which asks for it by :func:`pending` and then ends early.

    A second signal is not held back. Signals that nobody has set a handler for keep their default action.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[..., Any]] = {}

    def note(signum: int, frame: Any) -> None:
        if signum in _deferred:
            before[signum](signum, frame)
        _deferred.append(signum)
        if _ending is not None:
            _ending.watch()

    for number in _SIGNALS:
        if callable(handler := signal.getsignal(number)):
            before[number] = handler
            signal.signal(number, note)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        came, _deferred[:] = list(_deferred), []
        for signum in came:
            before[signum](signum, None)


def pending() -> bool:
    """Whether an interruption is being held back."""
    return bool(_deferred)


def handled() -> bool:
    """Whether this process ends by :func:`ending` when it is interrupted."""
    return _ending is not None


def ignored() -> None:
    """Ignores further signals: for a process that does nothing any more but end."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_now() -> NoReturn:
    """Kills all that this process started, then itself."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    # Not by sys.stderr, which the main thread may be in the middle of using; and a progress display hides the cursor.
    with contextlib.suppress(OSError):
        os.write(2, (("\x1b[?25h\n" if os.isatty(2) else "") + MESSAGE + "\n").encode())
    os._exit(CODE)
