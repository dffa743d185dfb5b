"""Ray nodes on this machine for `kill_campaign.py` and `bench_scaling.py`, each with its own ports and processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
TAG = "DAS_LOCAL_CLUSTER"
"""Environment variable of all processes of a cluster, with its folder: it makes them known while they live."""
_RAY = [sys.executable, "-m", "ray.scripts.scripts"]
_READY = "Ray runtime started"
NIL_JOB = "ffffffff"
RAYS_OWN = ("ray::_AutoscalingCoordinatorActor", "ray::_StatsActor")
"""Actors that Ray Data starts once in a cluster and keeps for all later jobs."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, none of them in 10002-19999, where Ray puts its workers."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            if not 10002 <= (port := held.getsockname()[1]) <= 19999:
                ports.append(port)
    return ports


def environment(folder: Path) -> dict[str, str]:
    """What every process of a cluster gets."""
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        TAG: str(folder),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(REPOSITORY), str(REPOSITORY / "jobs"), os.environ.get("PYTHONPATH")])
        ),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_worker_niceness": "0",
        # A busy machine exceeds the 30 s that Ray gives a node to start.
        "RAY_raylet_start_wait_time_s": "120",
        # A dead node is noticed after 3 s, not after 15: waiting is all that would change.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "POLARS_MAX_THREADS": "1",
        "DAS_HOME": str(folder / "home"),
    }


def prepare_folder(folder: Path) -> None:
    """Makes the folder of a cluster, with a token of its own; its path has to be short.

    Raises:
        SystemExit: An earlier cluster of this folder still has processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if left := tagged(folder):
        raise SystemExit(f"processes of an earlier cluster in {folder} are still there: {left}")
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(os.urandom(32).hex())
    shutil.rmtree(folder / "r", ignore_errors=True)


class Node:
    """A Ray node, as a `ray start --block` of its own."""

    def __init__(self, folder: Path, name: str, head: str | None = None, cpus: int = 1) -> None:
        """Without the address of a ``head`` it is one."""
        self._folder, self._log, self._head, self._cpus = folder, folder / f"{name}.log", head, cpus
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths, self._was_up = 0, False
        self.address = head or ""

    def start(self) -> None:
        """Starts it, and does not wait."""
        ports = dict(zip(_PORTS, free_ports(len(_PORTS))))
        if self._head is None:
            gcs, client, dashboard = free_ports(3)
            self.address = f"127.0.0.1:{gcs}"
            where = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}"]
            # Ray Train's own tidying up asks the dashboard whether a run is over.
            where += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
            where += [f"--temp-dir={self._folder / 'r'}"]
        else:
            where = [f"--address={self._head}"]
        command = [*_RAY, "start", *where, *(f"--{name}={port}" for name, port in ports.items())]
        command += ["--block", f"--num-cpus={self._cpus}", "--object-store-memory=100000000", "--disable-usage-stats"]
        command += ["--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"]
        self._log.unlink(missing_ok=True)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment(self._folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._prefer(-5)

    def _prefer(self, niceness: int) -> None:
        """Ray gives up a node whose agents need more than 15 s to start, as on a busy machine: they come first.

        Processes of a session share its niceness where the kernel groups them so.
        """
        with contextlib.suppress(OSError):
            if self._process is not None:
                Path(f"/proc/{self._process.pid}/autogroup").write_text(str(niceness))

    @property
    def pid(self) -> int | None:
        """Of its `ray start`; None once that has ended."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def is_up(self) -> bool:
        is_up = self.pid is not None and _READY in self._log.read_text(errors="replace")
        if is_up and not self._was_up:
            self._prefer(0)
        self._was_up = is_up
        return is_up

    def tend(self) -> None:
        """Starts it again where it has ended, as after a kill, or where its agents took too long on a busy machine."""
        if self.pid is None:
            self._deaths += 1
            if self._deaths > 500:
                raise RuntimeError(f"the node does not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            self.start()

    def wait(self, patience: float = 400) -> None:
        deadline = time.monotonic() + patience
        while not self.is_up:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node does not come up:\n{self._log.read_text(errors='replace')[-2000:]}")
            self.tend()
            time.sleep(0.2)

    def family(self) -> list[psutil.Process]:
        """All of its processes, `ray start` first."""
        with contextlib.suppress(psutil.Error):
            if self.pid is not None:
                own = psutil.Process(self.pid)
                return [own, *own.children(recursive=True)]
        return []

    def raylet(self) -> psutil.Process | None:
        return next((one for one in self.family() if words(one)[:1] and "raylet" in Path(words(one)[0]).name), None)

    def stop(self) -> None:
        family = self.family()
        for process in family[:1]:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        if self._process is not None:
            self._process.wait()


_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)


def words(process: psutil.Process) -> list[str]:
    """Its command line; nothing of one that is gone or a zombie."""
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def tagged(folder: Path) -> list[psutil.Process]:
    """All processes of the cluster in this folder, whoever their parents are now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TAG) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def workers(folder: Path) -> list[psutil.Process]:
    """Ray's worker processes that belong to a job."""
    found = []
    for process in tagged(folder):
        with contextlib.suppress(psutil.Error):
            line = words(process)
            is_worker = any(word.startswith("ray::") or word.endswith("default_worker.py") for word in line)
            if any(word.strip().startswith(RAYS_OWN) for word in line):
                continue
            if is_worker and process.environ().get("RAY_JOB_ID", NIL_JOB) != NIL_JOB:
                found.append(process)
    return found
