"""A Ray head of our own with token authentication: it takes jobs from those who hold the token, and only those."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from servers import RayHead

SCRIPT = """
import ray
ray.init(logging_level="warning")

@ray.remote
def double(x):
    return 2 * x

print("sum", sum(ray.get([double.remote(i) for i in range(4)])))
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "good.py").write_text(SCRIPT)
    (folder / "bad.py").write_text("import sys\nsys.exit('ml-9z is no dataset; choose another.')\n")
    return folder


@pytest.mark.slow
def test_a_job_with_the_token_runs(ray_head: RayHead, scripts: Path) -> None:
    done = ray_head.submit(["python", "good.py"], working_dir=scripts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sum 12" in done.stdout


@pytest.mark.slow
def test_a_failing_job_ends_non_zero_with_its_sentence(ray_head: RayHead, scripts: Path) -> None:
    done = ray_head.submit(["python", "bad.py"], working_dir=scripts)
    assert done.returncode != 0
    assert "ml-9z is no dataset; choose another." in done.stdout


def test_a_job_without_the_token_is_refused(ray_head: RayHead, scripts: Path) -> None:
    mark = scripts / "ran"
    done = ray_head.submit(["touch", str(mark)], working_dir=scripts, token=False)
    assert done.returncode != 0
    assert not mark.exists()


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("0" * 64, 403)])
def test_the_dashboard_refuses_strangers(ray_head: RayHead, token: str | None, status: int) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(ray_head.dashboard + "/api/jobs/", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == status


@pytest.mark.slow
def test_it_lives_beside_the_shared_session(ray_head: RayHead, ray_session: None, scripts: Path) -> None:
    import ray

    assert ray.cluster_resources()["CPU"] == 4
    assert ray.get_runtime_context().gcs_address != ray_head.address
    assert ray_head.submit(["python", "good.py"], working_dir=scripts).returncode == 0
    assert ray.is_initialized()


def test_a_stopped_head_leaves_no_process(run_folder: Path) -> None:
    head = RayHead(run_folder / "h2", cpus=1)
    head.start()
    mine = f"{run_folder / 'h2'}{os.sep}"
    assert processes_naming(mine)
    head.stop()
    assert processes_naming(mine) == []


def processes_naming(text: str) -> list[str]:
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(text in part for part in process.info["cmdline"] or [])
    ]
