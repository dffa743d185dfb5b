"""Ctrl-C and SIGTERM, whatever a library makes of them: exit code 130 and one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from distill_at_scale import signals

# Each is a block of a program; {0} is the signal that the program sends itself.
BLOCKS = {
    "waits": "os.kill(os.getpid(), {0}); time.sleep(60)",
    "swallows it": """
try:
    os.kill(os.getpid(), {0}); time.sleep(60)
except KeyboardInterrupt:
    pass""",
    "drops it in a callback": """
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), {0}))
if not os.fork():
    os._exit(0)
time.sleep(60)""",
    "fails by it": """
try:
    os.kill(os.getpid(), {0}); time.sleep(60)
except KeyboardInterrupt:
    raise ValueError("a worker died") from None""",
    "exits by it": """
try:
    os.kill(os.getpid(), {0}); time.sleep(60)
except KeyboardInterrupt:
    sys.exit(0)""",
    "replaces the handler, but before": """
with signals.kept():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
os.kill(os.getpid(), {0}); time.sleep(60)""",
    "has a handler that exits": """
with signals.kept():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    os.kill(os.getpid(), {0}); time.sleep(60)""",
    "defers it": """
with signals.deferred():
    os.kill(os.getpid(), {0})
    print(signals.pending(), flush=True)
print("not reached")""",
    "fails while it is deferred": """
with signals.deferred():
    os.kill(os.getpid(), {0})
    print(signals.pending(), flush=True)
    raise ValueError("a worker died")""",
    "is impatient": """
child = subprocess.Popen(["sleep", "60"])
try:
    os.kill(os.getpid(), {0}); time.sleep(60)
finally:
    print(child.pid, flush=True)
    os.kill(os.getpid(), {0})
    time.sleep(60)""",
}


def run(block: str, name: str = "signal.SIGTERM") -> subprocess.CompletedProcess[str]:
    program = "import os, signal, subprocess, sys, time\nfrom distill_at_scale import signals\nwith signals.ending():\n"
    program += "\n".join("    " + line for line in block.replace("{0}", name).splitlines())
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)


def ends(pid: int) -> bool:
    """Whether a process is gone, or a zombie, within a few seconds."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("name", ["signal.SIGINT", "signal.SIGTERM"])
@pytest.mark.parametrize("what", BLOCKS)
def test_a_signal_ends_a_process_that(what: str, name: str) -> None:
    done = run(BLOCKS[what], name)
    assert (done.returncode, done.stderr) == (signals.CODE, signals.MESSAGE + "\n"), done
    if "defer" in what:
        assert done.stdout == "True\n"
    if what == "is impatient":
        # Its child was killed as well, which takes effect a moment later.
        assert ends(int(done.stdout))


def test_without_a_signal_nothing_changes() -> None:
    assert run("sys.exit(3)").returncode == 3
    failed = run("raise ValueError('a bug')")
    assert failed.returncode == 1
    assert "ValueError: a bug" in failed.stderr
    done = run("signal.raise_signal(signal.SIGUSR1) if False else print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


INTERRUPTED = """
import threading
threading.Timer(0.2, signals.raise_in_main, [ValueError("the nodes are gone")]).start()
"""


@pytest.mark.parametrize("block", ["time.sleep(60)", "with signals.deferred():\n    time.sleep(2)"])
def test_another_thread_interrupts_by_an_error_of_its_own(block: str) -> None:
    done = run(INTERRUPTED + block)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: the nodes are gone\n")
    # The next signal means what it always does.
    again = run(f"{INTERRUPTED}try:\n    time.sleep(60)\nexcept ValueError:\n    os.kill(os.getpid(), {{0}})")
    assert (again.returncode, again.stderr) == (signals.CODE, signals.MESSAGE + "\n")


HANDLERS = """
import signal
from distill_at_scale import signals
handlers = lambda: [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
before = handlers()
try:
    with signals.ending():
        signal.raise_signal(signal.SIGTERM)
except SystemExit as ended:
    print(ended.code, before == handlers(), signals.handled())
"""


def test_handlers_of_before_are_back() -> None:
    # In a process of its own: one that was interrupted is killed where it does not end within 25 s.
    done = subprocess.run([sys.executable, "-c", HANDLERS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{signals.CODE} True False\n"), done


def test_what_nobody_handles_keeps_its_action() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.deferred():
        assert signal.getsignal(signal.SIGTERM) == before or callable(before)
    with signals.kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_an_interruption_inside_an_import_ends_with_the_exit_code(tmp_path: Path) -> None:
    code = "from distill_at_scale import signals\nwith signals.ending():\n    exec('raise KeyboardInterrupt')"
    (tmp_path / "interrupted.py").write_text(code)
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert (done.returncode, done.stderr) == (signals.CODE, f"{signals.MESSAGE}\n")
