"""``doctor`` on a machine that is well, and on storages and clusters that are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from servers import S3Server, free_ports

from distill_at_scale.data import storage
from distill_at_scale.pipelines import doctor as doctor_module
from distill_at_scale.pipelines.doctor import Check, doctor


def named(checks: list[Check], start: str) -> Check:
    (found,) = [check for check in checks if check.name.startswith(start)]
    return found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> list[Check]:
    return doctor(storage=str(tmp_path_factory.mktemp("storage") / "new"))


def test_every_part_is_examined(healthy: list[Check]) -> None:
    names = [check.name for check in healthy]
    for start in ("python", "torch threads", "gpu", "memory", "shared memory", "disk for", "pip", "S3", "storage"):
        assert any(name.startswith(start) for name in names), start
    assert names[-1] == "ray starts here"


def test_whatever_fails_names_the_mend(healthy: list[Check]) -> None:
    for check in healthy:
        assert bool(check.fix) == (check.ok is False), check


def test_this_environment_runs_ray_and_storage(healthy: list[Check]) -> None:
    assert named(healthy, "ray starts here") == Check("ray starts here", True, "1 node(s), 1 CPUs, 0 GPUs")
    assert named(healthy, "storage").ok is True
    assert named(healthy, "python").ok is True


def test_the_probe_file_is_gone(tmp_path: Path) -> None:
    assert [check.ok for check in doctor_module._storage(str(tmp_path))] == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (check,) = doctor_module._storage(str(tmp_path / "file" / "folder"))
    assert check.ok is False
    assert check.fix
    assert ".das-doctor-" not in check.detail


def test_s3_with_the_right_and_the_wrong_key(s3: S3Server, s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.ok for check in doctor_module._storage(s3_folder)] == [True]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + secret)
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()
    (check,) = doctor_module._storage(s3_folder)
    assert check.ok is False
    assert "access denied" in check.detail
    assert secret not in str(check)
    monkeypatch.undo()
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()


def test_the_environment_is_told_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = doctor_module._s3_environment()
    assert check.ok is True
    assert "AWS_SECRET_ACCESS_KEY" in check.detail
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in check.detail
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (check,) = doctor_module._s3_environment()
    assert check.ok is False
    assert check.fix == "Set AWS_SECRET_ACCESS_KEY too."


def test_a_cluster_that_is_not_there() -> None:
    (check,) = doctor_module._ray(f"127.0.0.1:{free_ports(1)[0]}")
    assert check.ok is False
    assert "nobody answers" in check.detail
    assert "address" in check.fix


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> None:
        raise OSError("no /proc here")

    (check,) = doctor_module._examine("memory", broken)  # type: ignore[arg-type]
    assert check.ok is False
    assert "no /proc here" in check.detail
    assert check.fix
