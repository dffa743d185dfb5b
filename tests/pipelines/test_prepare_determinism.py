"""The same rows, seed and settings give the same checksums, however many workers and files there are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prepare_kit import checksums, inline_prepare, random_rows, write_logs

import distill_at_scale as das
from distill_at_scale.data.preparation.kcore import bucket_groups

ROWS = random_rows(31, 3000, 200, 100)
SETTINGS: dict[str, Any] = {"split": "20_percent_hist", "shards": 6, "min_user": 3, "min_item": 3, "seed": 4}


@contextlib.contextmanager
def only_workers(n: int) -> Iterator[None]:
    """Leaves only so many of the session's CPUs free: the others are held as long as the block runs."""
    import ray

    held = int(ray.cluster_resources()["CPU"]) - n

    class Holder:
        def ready(self) -> bool:
            return True

    kind: Any = ray.remote(num_cpus=1)(Holder)
    holders = [kind.remote() for _ in range(held)]
    ray.get([holder.ready.remote() for holder in holders])
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) != n:
        # CPUs of the holders before these come back a moment later.
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.1)
    try:
        yield
    finally:
        for holder in holders:
            ray.kill(holder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("expected")
    return checksums(inline_prepare(input=write_logs(folder / "log", ROWS, 3), output=str(folder / "out"), **SETTINGS))


@pytest.mark.parametrize(("workers", "files"), [(1, 3), (2, 30)])
def test_workers_and_files(ray_session: None, tmp_path: Path, expected: list[str], workers: int, files: int) -> None:
    inputs = write_logs(tmp_path / "log", ROWS, files)
    with only_workers(workers):
        dataset = das.prepare(input=inputs, output=str(tmp_path / "out"), **SETTINGS)
    assert checksums(dataset) == expected


@pytest.mark.slow
def test_four_workers(run_folder: Path, tmp_path: Path, expected: list[str]) -> None:
    """In a Ray of their own: the shared one has two."""
    asked = {"input": write_logs(tmp_path / "log", ROWS, 3), "output": str(tmp_path / "out"), **SETTINGS}
    script = f"import ray, distill_at_scale as das; ray.init(num_cpus=4); das.prepare(**{asked!r})"
    environment = {**os.environ, "RAY_TMPDIR": str(run_folder / "four")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    assert checksums(das.Dataset.open(str(tmp_path / "out"))) == expected


@pytest.mark.parametrize(("files", "suffix"), [(30, ".csv"), (1, ".parquet"), (7, ".parquet")])
def test_files_and_formats(tmp_path: Path, expected: list[str], files: int, suffix: str) -> None:
    inputs = write_logs(tmp_path / "log", ROWS[::-1], files, suffix)
    assert checksums(inline_prepare(input=inputs[::-1], output=str(tmp_path / "out"), **SETTINGS)) == expected


def test_what_decides_the_content_shows(tmp_path: Path, expected: list[str]) -> None:
    inputs = write_logs(tmp_path / "log", ROWS, 1)
    others: list[dict[str, Any]] = [{"seed": 5}, {"shards": 5}, {"min_item": 1}, {"duplicates": "first"}]
    for k, other in enumerate(others):
        dataset = inline_prepare(input=inputs, output=str(tmp_path / f"{k}"), **(SETTINGS | other))
        assert checksums(dataset) != expected


def test_the_same_file_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named twice, by a folder, by a glob, relatively and as a URI: with duplicates kept, none is counted twice."""
    monkeypatch.chdir(tmp_path)
    inputs = write_logs(tmp_path / "log", ROWS, 2)
    once = inline_prepare(input=inputs, output="once", duplicates="all", shards=2)
    many = [*inputs, "log", "log/*.csv", f"file://{inputs[0]}", "./log/../log/log-01.csv"]
    again = inline_prepare(input=many, output="again", duplicates="all", shards=2)
    assert again.manifest.source["rows"] == len(ROWS)
    assert checksums(again) == checksums(once)
    assert again.uri == str(tmp_path / "again")


@pytest.mark.parametrize("n_shards", [1, 64, 128, 129, 4096, 65_536])
def test_buckets_are_filtered_in_many_groups_and_each_once(n_shards: int) -> None:
    groups = bucket_groups(n_shards)
    assert [bucket for group in groups for bucket in group] == list(range(n_shards))
    assert max(map(len, groups)) <= 16
    assert len(groups) >= min(n_shards, 64)
