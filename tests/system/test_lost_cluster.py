"""The head of a cluster is killed while a verb runs: one sentence and exit code 1, whatever it was waiting for."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from servers import RayHead
from system_kit import blocks_csv, errors

import distill_at_scale as das

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def head(run_folder: Path) -> Iterator[RayHead]:
    head = RayHead(run_folder / "lost")
    head.start()
    yield head
    head.stop()


@pytest.fixture(scope="module")
def data(run_folder: Path, ray_session: None) -> str:
    (run_folder / "lost.csv").write_bytes(blocks_csv())
    return das.prepare(str(run_folder / "lost.csv"), output=str(run_folder / "lost-data"), overwrite=True).uri


def killed(head: RayHead, name: str | None) -> None:
    """SIGKILL to the processes of the head by this name, or to all."""
    assert head._process is not None
    whole = psutil.Process(head._process.pid)
    for process in [whole, *whole.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            if name is None or name in process.name():
                process.kill()


@pytest.mark.parametrize(
    ("by_client", "name", "says"),
    [
        (False, None, "The head of the Ray cluster at "),
        (False, "gcs_server", "The head of the Ray cluster at "),
        (True, None, "The connection to the Ray cluster is lost"),
    ],
    ids=["head", "gcs", "client"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_head_is_one_sentence(
    head: RayHead, data: str, tmp_path: Path, by_client: bool, name: str | None, says: str, workers: int
) -> None:
    address = head.client_address if by_client else head.address
    words = ["--data", data, "--model", "mf", "--set", "epochs=1000000", "--workers", str(workers)]
    words += ["--output", str(tmp_path / "mf"), "--address", address]
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distill_at_scale",
            "fit",
            *words,
            "--output",
            str(tmp_path / "mf"),
            "--address",
            address,
        ],
        env={
            **head.environment(),
            "PYTHONPATH": str(REPOSITORY),
            # A minute otherwise.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
            "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not any((tmp_path / "mf").rglob("checkpoint-*")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        killed(head, name)
        shown, said = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 1, said
    assert shown == ""
    assert len(errors(said)) == 1, said
    assert errors(said)[0].startswith("error: " + says), said
    assert errors(said)[0].endswith("run the same command again to go on."), said
    assert "Traceback" not in said
