"""fit and distill on workers that come and go: nodes are killed and started while they run (--workers LEAST:MOST)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from servers import RayHead, Raylet, can_unshare
from system_kit import blocks_csv

import distill_at_scale as das
from distill_at_scale.data import storage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="a node with its own disks needs the right to unshare mounts"),
]

# Ray Train looks for more nodes once in a minute; the verb itself has no setting for it.
SCRIPT = """
import sys
from distill_at_scale.__main__ import main
from distill_at_scale.pipelines.training import ray_train_group
ray_train_group._RESIZE_S = 5.0
sys.exit(main())
"""


class Run:
    """`das` as a process whose messages are read as they come."""

    def __init__(self, head: RayHead, *arguments: str) -> None:
        command = [sys.executable, "-c", SCRIPT, *arguments, "--address", head.address]
        env = {**head.environment(), "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
        self._process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(iter(self._process.stderr.readline, ""))

    def until(self, said: str, times: int = 1, patience: float = 240) -> None:
        """Waits until a sentence was said so many times."""
        deadline = time.monotonic() + patience
        while sum(said in line for line in self.lines) < times:
            assert self._process.poll() is None, "".join(self.lines)
            assert time.monotonic() < deadline, f"'{said}' was not said: {''.join(self.lines)}"
            time.sleep(0.2)

    def wait(self) -> int:
        return self._process.wait(timeout=400)

    def kill(self) -> None:
        self._process.kill()


@pytest.fixture
def head(run_folder: Path) -> Iterator[RayHead]:
    head = RayHead(run_folder / "elastic", cpus=0)
    head.start()
    yield head
    head.stop()


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "--model", "mf", "--set", "epochs=600,patience=600,dim=8,batch_size=64"),
        ("distill", "--method", "distill_cf", "--users", "6", "--set", "steps=3000", "--checkpoint-every", "10"),
    ],
    ids=["fit", "distill"],
)
def test_nodes_come_and_go(
    head: RayHead, ray_session: None, s3_folder: str, tmp_path: Path, words: Sequence[str]
) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    data = das.prepare(tmp_path / "log.csv", output=storage.join(s3_folder, "data"), shards=3).uri
    output = storage.join(s3_folder, "made")
    nodes = [Raylet(head, cpus=1, name=name) for name in ("first", "second")]
    nodes[0].start()
    run = Run(head, *words, "--data", data, "--workers", "1:2", "--output", output)
    try:
        run.until("1 of 2 workers are there")
        nodes[1].start()
        run.until("2 of 2 workers are there")
        nodes[1].stop(patience=0)
        run.until("1 of 2 workers are there", times=2)
        assert run.wait() == 0, "".join(run.lines)
    finally:
        run.kill()
        for node in nodes:
            node.stop()
    if words[0] == "fit":
        model = das.load_model(output)
        assert model.selection is not None
        # Each epoch once: none was lost, and none was taken twice.
        assert [point.value for point in model.selection.points] == list(range(1, 601))
    else:
        steps = [point["step"] for point in das.SyntheticDataset.open(output).manifest.curve]
        assert steps == sorted(set(steps))
        assert steps[-1] == 3000


def test_a_node_that_was_just_lost_is_waited_for(
    head: RayHead, ray_session: None, s3_folder: str, tmp_path: Path
) -> None:
    """No autoscaler says what there could be: a fixed number of workers is asked for, not refused."""
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    data = das.prepare(tmp_path / "log.csv", output=storage.join(s3_folder, "data"), shards=3).uri
    nodes = [Raylet(head, cpus=1, name=name) for name in ("first", "second")]
    for node in nodes:
        node.start()
    nodes[1].stop(patience=0)
    # Until the head has noticed.
    time.sleep(20)
    words = ("fit", "--model", "mf", "--set", "epochs=3,dim=8", "--workers", "2", "--wait-for-nodes", "5m")
    run = Run(head, *words, "--data", data, "--output", storage.join(s3_folder, "made"))
    try:
        run.until("2 × (1 CPU) asked for")
        nodes[1].start()
        assert run.wait() == 0, "".join(run.lines)
        refused = Run(head, *words, "--workers", "3", "--data", data, "--output", storage.join(s3_folder, "more"))
        assert refused.wait() == 1
        assert "--workers 3 needs a CPU for each, but the cluster has 2; set fewer." in "".join(refused.lines)
    finally:
        run.kill()
        for node in nodes:
            node.stop()
