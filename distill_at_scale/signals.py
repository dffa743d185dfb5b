"""Ctrl-C (SIGINT) and SIGTERM: both end a verb with one sentence and exit code 130.

A signal becomes a KeyboardInterrupt in the main thread, so that every context manager closes its resources: the
progress display, the Ray session. Some libraries install their own handlers, which change the meaning of Ctrl-C (Ray
Tune returns normally, Ray Train never restores the handler, Ray's start exits with 1). They are called inside
:func:`kept`, which restores the handlers, or inside :func:`deferred`, which delays the interruption until the library
has finished its work.
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
"""Exit code of an interrupted verb: 128 + SIGINT, as in shells."""

# How long after an interruption that was dropped it comes again.
_AGAIN_S = 0.05
# Time limit for an orderly end; after it, the process and its children are killed.
_PATIENCE_S = 25.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Ending:
    """The handler of a process that ends when it is interrupted."""

    def __init__(self) -> None:
        self.interrupted = False
        self._watching = False
        self._dropped = False

    def __call__(self, signum: int, frame: Any) -> None:
        global _error
        if _error is not None:
            error, _error = _error, None
            raise error
        if _abandoned:
            raise KeyboardInterrupt
        if self.interrupted and not self._dropped:
            # A second signal: end immediately.
            _end_now()
        self.interrupted, self._dropped = True, False
        self.watch()
        raise KeyboardInterrupt

    def unraisable(self, dropped: Any) -> None:
        """The hook for exceptions that Python drops, as in a callback of a fork or a finaliser: interrupts again."""
        if not (self.interrupted and isinstance(dropped.exc_value, KeyboardInterrupt)):
            return sys.__unraisablehook__(dropped)
        self._dropped = True
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    def watch(self) -> None:
        """Kills the process after a time limit, since a library may swallow a KeyboardInterrupt."""
        if not self._watching:
            self._watching = True
            watchdog = threading.Timer(_PATIENCE_S, _end_now)
            watchdog.daemon = True
            watchdog.start()


_ending: _Ending | None = None
_deferred: list[int] = []
"""Signals received inside a block that defers them."""
_error: Exception | None = None
"""What the next SIGINT raises instead of ending the process."""


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turns an interruption of the block into :data:`MESSAGE` on standard error and exit code 130.

    For the main function of a process, in its main thread. After a signal the exit code is 130, however the block ends
    (also normally, or by an error that the signal caused). A second signal kills the process and all its children, and
    so does the first after 25 s, if the process, and not only the block, has not ended by then.

    Raises:
        SystemExit: The block was interrupted; code 130.
    """
    global _ending
    if _ending is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _ending = me = _Ending()
    before = {number: signal.signal(number, me) for number in _SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, me.unraisable
    try:
        yield
    except KeyboardInterrupt:
        me.interrupted = True
    except BaseException as left:
        if _abandoned:
            _leave(left)
        if not me.interrupted:
            raise
    finally:
        _ending = None
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
    if me.interrupted:
        with contextlib.suppress(OSError, ValueError):
            # Overwrites the "^C" that terminals show at the cursor.
            print(("\r" if sys.stderr.isatty() else "") + MESSAGE, file=sys.stderr, flush=True)
        # If a KeyboardInterrupt passed through exec of a string (as in dataclasses, hence in many imports), CPython
        # remembers it and ends by the signal instead of the exit code; the next exec clears it.
        exec("")
        raise SystemExit(CODE)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Restores handlers that the block replaces; only in a process that runs inside :func:`ending`."""
    if _ending is None:
        yield
        return
    me = _ending
    try:
        yield
    except SystemExit as left:
        # Raised by a handler that Ray installed temporarily.
        me.interrupted = True
        raise KeyboardInterrupt from left
    finally:
        for number in _SIGNALS:
            signal.signal(number, me)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defers an interruption until the block ends; the block can end early if :func:`pending` is true.

    A second signal is not deferred. Signals without a Python handler keep their default action.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[..., Any]] = {}

    def note(signum: int, frame: Any) -> None:
        if signum in _deferred:
            before[signum](signum, frame)
        _deferred.append(signum)
        if _ending is not None and _error is None:
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
    """Returns whether an interruption is deferred."""
    return bool(_deferred)


_abandoned = ""


_last_words: Callable[[str], None] | None = None


@contextlib.contextmanager
def last_words(say: Callable[[str], None]) -> Iterator[None]:
    """Has :func:`give_up` say its sentence by ``say`` during the block."""
    global _last_words
    before, _last_words = _last_words, say
    try:
        yield
    finally:
        _last_words = before


def interrupt(sentence: str) -> None:
    """Interrupts the main thread, from another one, for a reason that the verb itself turns into an error.

    A process that ends by :func:`ending` then ends with the exit code of that error, and without the exit handlers of
    libraries, which would wait for what is gone. A main thread that is stuck in a library is not reached.
    """
    global _abandoned
    if _ending is not None:
        _abandoned = sentence
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def give_up() -> None:
    """Ends a process whose main thread :func:`interrupt` did not reach, with its sentence and exit code 1."""
    if _abandoned:
        if _last_words is not None:
            with contextlib.suppress(Exception):
                _last_words(_abandoned)
        _end_now()


def _leave(left: BaseException) -> None:
    """Ends this process at once, with the exit code of what it was left by."""
    if isinstance(left, SystemExit):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(left.code if isinstance(left.code, int) else 1)


def raise_in_main(error: Exception) -> None:
    """Raises an error in the main thread, from another one.

    Args:
        error: what is raised there; a KeyboardInterrupt where the process does not end by :func:`ending`.
    """
    global _error
    _error = error if _ending is not None else None
    ident = threading.main_thread().ident
    if ident is not None:
        # A real signal: it wakes what waits in C.
        signal.pthread_kill(ident, signal.SIGINT)


def handled() -> bool:
    """Returns whether this process runs inside :func:`ending`."""
    return _ending is not None


def ignored() -> None:
    """Ignores further signals, for a process that is about to exit."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_now() -> NoReturn:
    """Kills all children of this process, then the process itself."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    # Not via sys.stderr, which the main thread may be using. A progress display hides the cursor, so it is shown again.
    with contextlib.suppress(OSError):
        end = "" if _abandoned else MESSAGE + "\n"
        os.write(2, (("\x1b[?25h\n" if os.isatty(2) else "") + end).encode())
    os._exit(1 if _abandoned else CODE)
