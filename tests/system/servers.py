"""Real servers for the system tests: an S3 (SeaweedFS) and a Ray head, each a child process on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent


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


class Server:
    """A child process in its own process group, stopped with everything that it started."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def _launch(
        self, command: Sequence[str], env: Mapping[str, str], ready: Callable[[], bool], patience: float = 90
    ) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + patience
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not come up:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, patience: float = 5) -> None:
        """Ends the process, its group and its descendants (Ray gives some of them groups of their own).

        Args:
            patience: how long it may take to end by itself, in seconds; 0: it is killed at once.
        """
        process, self._process = self._process, None
        if process is None:
            return
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM if patience else signal.SIGKILL)
            process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(family, timeout=5)


class S3Server(Server):
    """SeaweedFS serving one bucket; ``env`` is all that a client needs."""

    def __init__(self, folder: Path, env: Mapping[str, str], bucket: str = "das-test") -> None:
        super().__init__("SeaweedFS", folder / "weed.log")
        self.folder = folder
        self.env = dict(env)
        self.bucket = bucket

    @property
    def endpoint(self) -> str:
        return self.env["AWS_ENDPOINT_URL"]

    def uri(self, *parts: str) -> str:
        """An s3:// address in the bucket."""
        return "/".join([f"s3://{self.bucket}", *parts])

    def start(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        ports = free_ports(7)
        flags = dict(zip(("master", "volume", "filer"), ports[:3]))
        grpc = dict(zip(("master", "volume", "filer", "s3"), ports[3:]))
        command = [
            str(BIN / "weed"),
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-bucket={self.bucket}",
            f"-s3.port={self.endpoint.rpartition(':')[2]}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            *(f"-{name}.port={port}" for name, port in flags.items()),
            *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
        ]
        keys = {k: self.env[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **keys}
        self._launch(command, env, self._ready)

    def _ready(self) -> bool:
        import botocore.session

        # Asking S3 itself is the only answer that counts: the port opens before the bucket and the keys exist.
        client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 0}),
        )
        try:
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"ready")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except Exception:
            return False
        return True


class RayHead(Server):
    """A Ray head with token authentication, 2 logical CPUs and a dashboard on loopback, for ``ray job submit``."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        super().__init__("the Ray head", folder / "head.log")
        self.folder = folder
        self.cpus = cpus
        self.token_file = folder / "token"
        self.address = ""
        self.client_address = ""
        self.dashboard = ""

    def environment(self, token: bool = True) -> dict[str, str]:
        """The environment of a client of this head, with or without its token."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        env["PATH"] = os.pathsep.join([str(BIN), env["PATH"]])
        env["HOME"] = str(self.folder)
        env["RAY_AUTH_MODE"] = "token" if token else "disabled"
        if token:
            env["RAY_AUTH_TOKEN_PATH"] = str(self.token_file)
        return env

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(os.urandom(32).hex())
        gcs, dashboard, client, agent, agent_grpc, runtime_env, metrics, node, objects = free_ports(9)
        self.address = f"127.0.0.1:{gcs}"
        self.client_address = f"ray://127.0.0.1:{client}"
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        command = [
            str(BIN / "ray"),
            "start",
            "--head",
            "--block",
            f"--port={gcs}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime_env}",
            f"--metrics-export-port={metrics}",
            f"--node-manager-port={node}",
            f"--object-manager-port={objects}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--num-cpus={self.cpus}",
            "--object-store-memory=150000000",
            "--disable-usage-stats",
            f"--temp-dir={self.folder / 'r'}",
        ]
        self._launch(command, self.environment(), self._ready)

    def _ready(self) -> bool:
        # A job can only be taken once a node's agent is up; the jobs API answers without error from then on.
        request = urllib.request.Request(
            self.dashboard + "/api/jobs/", headers={"Authorization": "Bearer " + self.token_file.read_text()}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def submit(
        self,
        entrypoint: Sequence[str],
        working_dir: Path | str | None = None,
        token: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """``ray job submit -- entrypoint``, waited for; stdout holds the job's log, the exit code is the job's fate.

        The job sees this process's environment (S3 variables included), as the head does.
        """
        command = [str(BIN / "ray"), "job", "submit", f"--address={self.dashboard}", "--log-style=record"]
        if working_dir is not None:
            command.append(f"--working-dir={working_dir}")
        return subprocess.run(
            [*command, "--", *entrypoint],
            env=self.environment(token),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def stop(self, patience: float = 0) -> None:
        # Nothing of it is needed any more, and it would take some seconds to end by itself.
        super().stop(patience)
        shutil.rmtree(self.folder / "r", ignore_errors=True)


_STARTS = 5

# Private /tmp and /dev/shm, as another machine has them; what the tests themselves need of /tmp is bound back into it.
_PRIVATE = """
set -e
mount --make-rprivate /
private=$(mktemp -d)
mount -t tmpfs tmpfs "$private"
for needed in $NEEDED; do
    mkdir -p "$private/${needed#/tmp/}"
    mount --bind "$needed" "$private/${needed#/tmp/}"
done
mkdir -p "$private/home"
mount --move "$private" /tmp
mount -t tmpfs tmpfs /dev/shm
exec "$@"
"""


def can_unshare() -> bool:
    """Whether this process may give a child a mount namespace of its own."""
    tried = (
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    )
    return tried is not None and tried.returncode == 0


def on_private_disks(command: Sequence[str]) -> list[str]:
    """The command with /tmp and /dev/shm of its own; needs :func:`can_unshare`."""
    return ["unshare", "-m", "bash", "-c", _PRIVATE, "bash", *command]


def needed_of_tmp() -> str:
    """For the environment variable NEEDED: folders of /tmp with code that is imported."""
    code = {
        Path(entry) for entry in [*sys.path, sys.prefix, str(Path(__file__).parents[2])] if entry.startswith("/tmp/")
    }
    return " ".join(str(one) for one in code if one.is_dir() and not any(one.is_relative_to(x) for x in code - {one}))


class Raylet(Server):
    """Another node of a head's cluster, with its own /tmp and /dev/shm: a machine with disks that nobody else sees."""

    def __init__(self, head: RayHead, cpus: int = 2, name: str = "raylet") -> None:
        super().__init__(f"the node {name}", head.folder / f"{name}.log")
        self.head = head
        self.cpus = cpus

    def start(self) -> None:
        # A node whose agents take more than 15 s to start, as on a busy machine, dies; `ray start` does not notice.
        for left in reversed(range(_STARTS)):
            try:
                return self._start()
            except RuntimeError:
                if not left:
                    raise

    def _start(self) -> None:
        agent, agent_grpc, runtime_env, metrics, node, objects = free_ports(6)
        command = [
            str(BIN / "ray"),
            "start",
            f"--address={self.head.address}",
            "--block",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime_env}",
            f"--metrics-export-port={metrics}",
            f"--node-manager-port={node}",
            f"--object-manager-port={objects}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--num-cpus={self.cpus}",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
        ]
        env = self.head.environment()
        del env["RAY_AUTH_TOKEN_PATH"]
        env |= {"RAY_AUTH_TOKEN": self.head.token_file.read_text(), "HOME": "/tmp/home", "NEEDED": needed_of_tmp()}
        self.log.unlink(missing_ok=True)
        self._launch(on_private_disks(command), env, self._ready, patience=60)

    def _ready(self) -> bool:
        return "Ray runtime started" in self.log.read_text(errors="replace")
