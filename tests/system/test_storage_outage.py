"""An S3 server goes away while two workers train and comes back: they wait, and the model is the undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import S3Server, free_ports
from system_kit import blocks_csv, das_command

pytestmark = pytest.mark.slow


def fit(server: S3Server, name: str) -> list[str]:
    settings = ["--model", "mf", "--set", "epochs=300", "--workers", "2", "--checkpoint-every", "1"]
    return ["fit", "--data", server.uri("data"), *settings, "--output", server.uri(name)]


def test_workers_wait_for_a_storage_server(run_folder: Path, tmp_path: Path) -> None:
    env = {**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}", "AWS_MAX_ATTEMPTS": "1"}
    server = S3Server(run_folder / "s3-outage", {k: v for k, v in env.items() if k.startswith("AWS_")})
    server.start()
    try:
        (tmp_path / "log.csv").write_bytes(blocks_csv())
        for words in (
            ["prepare", "--input", str(tmp_path / "log.csv"), "--output", server.uri("data")],
            fit(server, "undisturbed"),
        ):
            done = das_command(*words, env=server.env)
            assert done.returncode == 0, done.stderr
        running = subprocess.Popen(
            [sys.executable, "-m", "distill_at_scale", *fit(server, "disturbed")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 120
            while not any(".safetensors" in key for key in keys(server, "disturbed/_work")):
                assert running.poll() is None, running.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            server.stop()
            time.sleep(15)
            server.start()
            _, said = running.communicate(timeout=200)
        finally:
            running.kill()
        assert running.returncode == 0, said
        assert f"{server.endpoint} does not answer" in said
        assert f"{server.endpoint} answers again after" in said
        assert read(server, "disturbed/weights.safetensors") == read(server, "undisturbed/weights.safetensors")
    finally:
        server.stop()


def client(server: S3Server) -> object:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    keys = {"key": server.env["AWS_ACCESS_KEY_ID"], "secret": server.env["AWS_SECRET_ACCESS_KEY"]}
    return s3fs.S3FileSystem(**keys, endpoint_url=server.endpoint, use_listings_cache=False)


def keys(server: S3Server, folder: str) -> list[str]:
    return client(server).find(f"{server.bucket}/{folder}")  # type: ignore[attr-defined,no-any-return]


def read(server: S3Server, key: str) -> bytes:
    return client(server).cat_file(f"{server.bucket}/{key}")  # type: ignore[attr-defined,no-any-return]
