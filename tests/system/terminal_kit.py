"""A real terminal (a pseudo-terminal of the kernel) with a program in it, and what a person would have seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

ROWS = 50
DAS = (sys.executable, "-m", "distill_at_scale")
_TOKENS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|([\r\n\b\t])|([^\x1b\r\n\b\t]+)|.", re.S)


@dataclass
class Screen:
    """A terminal as wide as it is, and as long as needed: what rich and Ray write, nothing more.

    Attributes:
        columns: width.
        lines: what stands there now.
        wrapped: lines that the terminal had to break, as they were when it did.
    """

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    _row: int = 0
    _column: int = 0

    def write(self, text: str) -> None:
        for found in _TOKENS.finditer(text):
            arguments, command, control, printed = found.groups()
            if command:
                self._command(command, arguments)
            elif control:
                self._control(control)
            elif printed:
                for letter in printed:
                    self._put(letter)

    def _control(self, letter: str) -> None:
        if letter == "\r":
            self._column = 0
        elif letter == "\n":
            self._go(self._row + 1)

    def _command(self, command: str, arguments: str) -> None:
        n = int(arguments) if arguments.isdigit() else 1
        line = self.lines[self._row]
        if command == "A":
            self._row = max(0, self._row - n)
        elif command == "B":
            self._go(self._row + n)
        elif command == "K":
            self.lines[self._row] = "" if arguments == "2" else line[: self._column]
        elif command == "G":
            self._column = n - 1
        elif command not in "mhl":
            self.unknown.add(command)

    def _put(self, letter: str) -> None:
        if self._column >= self.columns:
            self.wrapped.append(self.lines[self._row])
            self._column = 0
            self._go(self._row + 1)
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + letter + line[self._column + 1 :]
        self._column += 1

    def _go(self, row: int) -> None:
        self._row = row
        while len(self.lines) <= row:
            self.lines.append("")


@dataclass
class Seen:
    """How a program ended, and what it wrote.

    Attributes:
        code: exit code.
        text: everything, without escape sequences and with the lines that terminals break in one piece.
        raw: as it was written.
        screen: at the end.
        family: processes that it had started when the signal was sent, its own included.
    """

    code: int
    raw: str
    screen: Screen
    family: list[psutil.Process]

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", self.raw).replace("\r\n", "\n")

    def alive(self, patience: float = 20) -> list[str]:
        """Those of the family that have not ended, after a while."""
        _, left = psutil.wait_procs(self.family, timeout=patience)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    names.append(process.name())
        return names


def in_terminal(
    command: Sequence[str],
    columns: int = 80,
    *,
    env: Mapping[str, str | None] | None = None,
    when: str | None = None,
    send: signal.Signals | None = None,
    timeout: float = 400,
) -> Seen:
    """Runs a command in a terminal of its own.

    Args:
        env: changes to the environment.
        when: once it has written this, a signal is sent.
        send: the signal; None: Ctrl-C is pressed, which the terminal sends to all processes in its foreground.
        timeout: after which it is killed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    with _started(command, theirs, env) as process:
        os.close(theirs)
        raw, screen, family, sent = "", Screen(columns), [psutil.Process(process.pid)], when is None
        deadline = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([ours], [], [], 1.0)
            if ready:
                try:
                    piece = os.read(ours, 1 << 16)
                except OSError:
                    break  # nobody has it open any more
                if not piece:
                    break
                text = piece.decode(errors="replace")
                raw += text
                screen.write(text)
            elif process.poll() is not None:
                break  # a process that it left behind keeps the terminal open
            if not sent and when in Seen(0, raw, screen, []).text:
                sent = True
                family += family[0].children(recursive=True)
                if send is None:
                    os.write(ours, b"\x03")
                else:
                    process.send_signal(send)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{command} has not ended in {timeout} s:\n{raw[-4000:]}")
        os.close(ours)
        return Seen(process.wait(60), raw, screen, family)


def in_pipe(command: Sequence[str], env: Mapping[str, str | None] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command whose output is no terminal."""
    return subprocess.run(
        command,
        env=_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@contextlib.contextmanager
def _started(command: Sequence[str], terminal: int, env: Mapping[str, str | None] | None):
    process = subprocess.Popen(
        command,
        env=_environment({"TERM": "xterm-256color", "COLUMNS": None, "LINES": None, "NO_COLOR": None, **(env or {})}),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: _own_session(terminal),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            for one in [process, *family]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            process.wait(30)


def _own_session(terminal: int) -> None:
    """Makes the terminal that of the process, so that Ctrl-C reaches it."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _environment(changes: Mapping[str, str | None] | None) -> dict[str, str]:
    env = {**os.environ, **{name: value for name, value in (changes or {}).items() if value is not None}}
    return {name: value for name, value in env.items() if name not in (changes or {}) or changes[name] is not None}
