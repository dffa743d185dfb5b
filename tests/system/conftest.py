"""Fixtures of the system tests: ``s3``, ``s3_folder`` and ``ray_head``, started once, when first asked for."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from servers import RayHead, S3Server


@pytest.fixture(scope="session")
def s3(run_folder: Path) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; the test run's environment has pointed at it from the start."""
    env = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    server = S3Server(run_folder / "s3", env)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_folder(s3: S3Server) -> str:
    """A fresh s3:// folder for one test."""
    return s3.uri(uuid.uuid4().hex)


@pytest.fixture(scope="session")
def ray_head(run_folder: Path) -> Iterator[RayHead]:
    """A Ray head of our own, beside the shared session: it takes jobs by ``ray_head.submit([...])``."""
    head = RayHead(run_folder / "head")
    head.start()
    yield head
    head.stop()
