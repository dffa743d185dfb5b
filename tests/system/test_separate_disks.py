"""Two nodes whose disks are their own: local paths are refused before any work, and s3:// needs nothing local."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import RayHead, Raylet, S3Server, can_unshare
from system_kit import blocks_csv

from distill_at_scale.data import storage

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="`unshare -m` is not permitted here: no disks can be made private"),
]


@pytest.fixture(scope="module")
def cluster(run_folder: Path) -> Iterator[RayHead]:
    head = RayHead(run_folder / "disks", cpus=1)
    head.start()
    other = Raylet(head)
    try:
        other.start()
        yield head
    finally:
        other.stop()
        head.stop()


def call(cluster: RayHead, *words: str) -> dict[str, Any]:
    script = Path(__file__).with_name("every_local_path.py")
    done = subprocess.run(
        [sys.executable, str(script), cluster.address, *words],
        env={**cluster.environment(), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_local_paths_are_refused_before_work(cluster: RayHead, s3: S3Server, s3_folder: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    found = call(cluster, "local", s3_folder, str(tmp_path))
    assert len(found["said"]) == 18
    for name, sentence in found["said"].items():
        assert sentence.startswith(f"ClusterError: {tmp_path}/"), (name, sentence)
        assert " is on this machine's disk, which node " in sentence, (name, sentence)
        assert sentence.endswith(" does not see; use s3:// or a shared mount."), (name, sentence)
    # Neither markers nor outputs.
    assert found["left"] == ["held", "log.csv"]
    assert storage.list_files(s3_folder) == []


def test_s3_needs_nothing_local(cluster: RayHead, s3: S3Server, s3_folder: str) -> None:
    storage.write_bytes(storage.join(s3_folder, "log.csv"), blocks_csv())
    assert call(cluster, "s3", s3_folder)["hr@10"] == 1.0
