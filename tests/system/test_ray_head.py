"""A Ray head of our own with token authentication: it takes jobs from those who hold the token, and only those.

All tests that need it are in this file, so that one process of the run starts one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from dataset_kit import write_dataset
from notebook_kit import run_notebook
from servers import RayHead
from system_kit import blocks_csv, das_command, errors

import distill_at_scale as das
from distill_at_scale import signals
from distill_at_scale.pipelines import doctor as doctor_module
from distill_at_scale.pipelines.runtime.knock import refusal

REPOSITORY = Path(__file__).resolve().parents[2]

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

    assert ray.cluster_resources()["CPU"] == 2
    assert ray.get_runtime_context().gcs_address != ray_head.address
    assert ray_head.submit(["python", "good.py"], working_dir=scripts).returncode == 0
    assert ray.is_initialized()


@pytest.mark.parametrize("verbs", [1, pytest.param(5, marks=pytest.mark.slow)], ids=["prepare", "all"])
def test_the_verbs_run_as_jobs(ray_head: RayHead, tmp_path: Path, verbs: int) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    settings = {
        "prepare": {"input": [str(tmp_path / "log.csv")], "output": str(tmp_path / "data")},
        "fit": {"data": str(tmp_path / "data"), "model": "ease", "output": str(tmp_path / "ease")},
        "evaluate": {
            "data": str(tmp_path / "data"),
            "model": str(tmp_path / "ease"),
            "output": str(tmp_path / "ease.json"),
        },
        "sample": {
            "data": str(tmp_path / "data"),
            "sampler": "random_users",
            "budget": [0.5],
            "output": str(tmp_path / "samples"),
        },
        "compare": {
            "data": str(tmp_path / "data"),
            "samples": [str(tmp_path / "samples" / "random_users-0.5")],
            "models": ["popularity", "ease"],
            "output": str(tmp_path / "comparison"),
        },
    }
    for verb, content in list(settings.items())[:verbs]:
        (tmp_path / f"{verb}.yaml").write_text(yaml.safe_dump(content))
        entrypoint = ["python", f"jobs/{verb}.py", "--config", str(tmp_path / f"{verb}.yaml"), "--json"]
        done = ray_head.submit(entrypoint, working_dir=REPOSITORY)
        assert done.returncode == 0, done.stdout + done.stderr
    assert das.Dataset.open(str(tmp_path / "data")).n_rows == 1440
    if verbs > 1:
        assert das.load_model(str(tmp_path / "ease")).n_items == 40
        assert json.loads((tmp_path / "ease.json").read_text())["metrics"]["hr@10"] == 1.0
        assert (tmp_path / "comparison" / "comparison.json").exists()


@pytest.mark.slow
def test_a_failing_job_says_its_sentence(ray_head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,item_id\n1,2\n")
    entrypoint = ["python", "jobs/prepare.py", "--input", str(tmp_path / "log.csv"), "--output", str(tmp_path / "data")]
    done = ray_head.submit(entrypoint, working_dir=REPOSITORY)
    assert done.returncode != 0
    said = set(errors(done.stdout))  # Ray prints the end of the log once more below the job's fate
    assert len(said) == 1
    assert "no column for user_id" in said.pop()


LOOKS = """
import json, sys
from distill_at_scale.pipelines.doctor import _ray
print(json.dumps([[check.name, check.ok, check.detail] for check in _ray(sys.argv[1])]))
"""


def test_doctor_finds_it_with_its_token(ray_head: RayHead) -> None:
    (check,) = doctor_module._ray(ray_head.address)
    assert check.ok is False
    assert check.detail == "it wants a token, and this process has none"
    assert "RAY_AUTH_MODE=token" in check.fix, check

    # Ray reads the token once in a process.
    command = [sys.executable, "-c", LOOKS, ray_head.address]
    done = subprocess.run(command, env=ray_head.environment(), capture_output=True, text=True, timeout=240, check=True)
    checks = json.loads(done.stdout)
    assert [ok for _, ok, _ in checks] == [True] * 4, checks
    assert checks[0][2] == "1 node(s), 2 CPUs, 0 GPUs"
    assert {name.split()[0] for name, _, _ in checks[1:]} == {"ray", "python", "torch"}


def submit(head: RayHead, *words: str, token: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    return das_command("submit", "--address", head.dashboard, *words, env={**head.environment(token), **env})


def test_a_submitted_verb_ends_with_its_sentence_and_its_exit_code(ray_head: RayHead) -> None:
    done = submit(ray_head, "inspect", "/nowhere/at/all", "--quiet")
    assert done.returncode == 1, done.stdout + done.stderr
    (said,) = errors(done.stdout)
    assert said.startswith("error: /nowhere/at/all does not exist")
    assert f"is submitted to {ray_head.dashboard}; Ctrl-C stops it." in done.stderr


@pytest.mark.parametrize(
    ("token", "said"),
    [(None, "asks for a token, and there is none here"), ("0" * 64, "refuses the token that is used here")],
)
def test_a_submission_without_the_right_token_is_one_sentence(ray_head: RayHead, token: str | None, said: str) -> None:
    env = {} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    done = submit(ray_head, "inspect", "/data", token=False, **env)
    assert done.returncode == 1
    assert f"error: The cluster at {ray_head.dashboard} {said}; set RAY_AUTH_MODE=token" in done.stderr


@pytest.mark.slow
def test_a_submitted_job_gets_the_package_and_no_credentials(ray_head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    words = ("prepare", "--input", str(tmp_path / "log.csv"), "--output", str(tmp_path / "data"), "--json")
    done = submit(ray_head, "--json", *words, AWS_SECRET_ACCESS_KEY="hush-hush", AWS_REGION="eu-west-7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert das.Dataset.open(str(tmp_path / "data")).n_rows == 1440
    job = json.loads(done.stdout.splitlines()[-1])
    assert (job["verb"], job["status"], job["exit_code"]) == ("prepare", "SUCCEEDED", 0)
    assert json.loads(done.stdout.splitlines()[-2])["n_rows"] == 1440
    info = listed(ray_head, job["job"])
    assert info["entrypoint"] == "python -m distill_at_scale prepare --config settings.yaml --json"
    assert info["runtime_env"]["env_vars"]["AWS_REGION"] == "eu-west-7"
    assert "hush-hush" not in json.dumps(info) + done.stdout + done.stderr


@pytest.mark.slow
def test_a_verb_of_another_package_runs_as_a_job(ray_head: RayHead, tmp_path: Path) -> None:
    """Its code travels; the cluster has neither the package nor its entry point."""
    outside = REPOSITORY / "tests" / "plugins" / "package"
    write_dataset(tmp_path, [[(0, 0, 1.0, 1, 0), (1, 1, 1.0, 2, 0)]], [2], 3, item_space="")
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    done = submit(ray_head, "outside.verb:COUNT", str(tmp_path), "--factor", "2", "--json", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"users": 4}


def listed(head: RayHead, job: str) -> dict[str, Any]:
    headers = {"Authorization": "Bearer " + head.token_file.read_text()}
    request = urllib.request.Request(f"{head.dashboard}/api/jobs/{job}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


@pytest.mark.slow
def test_an_interruption_stops_the_job(ray_head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    words = ["prepare", "--input", str(tmp_path / "log.csv"), "--output", str(tmp_path / "data")]
    command = [sys.executable, "-m", "distill_at_scale", "submit", "--address", ray_head.dashboard, *words]
    child = subprocess.Popen(command, env=ray_head.environment(), stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    line = child.stderr.readline()
    job = line.split()[1]
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait(60) == 130, rest
    assert f"The job {job} is being stopped." in rest
    assert rest.splitlines()[-1] == signals.MESSAGE
    assert listed(ray_head, job)["status"] == "STOPPED"


@pytest.mark.slow
def test_a_job_that_is_not_waited_for_is_its_id(ray_head: RayHead) -> None:
    done = submit(ray_head, "--no-wait", "inspect", "/nowhere/at/all")
    assert done.returncode == 0, done.stderr
    (job,) = done.stdout.split()
    assert listed(ray_head, job)["submission_id"] == job
    assert f"--follow {job}" in done.stderr


def run_client(head: RayHead, folder: Path, *more: str) -> tuple[dict[str, Any], str]:
    """What client_verbs.py found in a process of its own, and its standard error."""
    (folder / "log.csv").write_bytes(blocks_csv())
    script = Path(__file__).with_name("client_verbs.py")
    done = subprocess.run(
        [sys.executable, str(script), head.client_address, str(folder), *more],
        env={**head.environment(), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def test_verbs_run_by_ray_client(ray_head: RayHead, tmp_path: Path) -> None:
    found, said = run_client(ray_head, tmp_path)
    place = tmp_path / "samples" / "random_users-0.5"
    assert found == {
        "rows": 1440,
        "samples": [600],
        "refused": [
            "OutputExistsError",
            f"{place} holds a dataset already; choose another --output, or replace it with --overwrite.",
        ],
    }
    assert "Dataset.from_ray and Dataset.to_ray cannot be had" in said
    assert "read the log: 1/1, done in" in said
    assert "write samples: 1/1, done in" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_what_is_in_memory_reaches_the_cluster(ray_head: RayHead, tmp_path: Path) -> None:
    found, _ = run_client(ray_head, tmp_path, "all")
    assert found["same rows"]
    assert found["in memory"] == 1.0
    assert found["to ray"][0] == "ClusterError"
    assert "Ray Data, which has no support for Ray Client" in found["to ray"][1]


@pytest.mark.slow
def test_ctrl_c_ends_the_run_on_the_cluster(ray_head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(blocks_csv())
    env = {**ray_head.environment(), "PYTHONPATH": str(REPOSITORY)}
    das_ = [sys.executable, "-m", "distill_at_scale"]
    data, address = str(tmp_path / "data"), ["--address", ray_head.client_address]
    prepare = [*das_, "prepare", "--input", str(tmp_path / "log.csv"), "--output", data, *address]
    subprocess.run(prepare, env=env, check=True, timeout=240)
    fit = [*das_, "fit", "--data", data, "--model", "mf", "--set", "epochs=1000000", "--output", str(tmp_path / "mf")]
    running = subprocess.Popen([*fit, *address], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        work = tmp_path / "mf" / "_work"
        wait_for(lambda: any(work.rglob("checkpoint-*")))
        assert drivers()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on."
    assert "Traceback" not in said
    wait_for(lambda: not drivers())


@pytest.mark.slow
def test_the_notebook_runs_by_ray_client(ray_head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ray_head.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAS_ADDRESS", ray_head.client_address)
    shown = run_notebook("recommend.ipynb", tmp_path, tmp_path / "das-recommend" / "log")
    assert "Make it: das sample" in shown["cell-05"]
    assert "14 of 14 done" in shown["cell-07"]
    assert "random_users" in shown["cell-08"]
    assert "<svg" in (tmp_path / "das-recommend" / "report.html").read_text()


def drivers() -> list[str]:
    """Processes in which verbs of clients run."""
    return processes_naming("ray::_Driver")


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


KNOCKS = """
import sys
from distill_at_scale.pipelines.runtime.knock import refusal
for address in sys.argv[1:]:
    print(refusal(address))
"""


def test_a_missing_and_a_wrong_token_are_named(ray_head: RayHead, tmp_path: Path) -> None:
    """Ray reads the token once in a process, so each case has its own."""
    (tmp_path / "wrong").write_text("0" * 64)
    wrong = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}
    none = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    for env, says in (
        (ray_head.environment(), "None"),
        (ray_head.environment(token=False), "it wants a token, and this process has none; set RAY_AUTH_MODE=token"),
        (ray_head.environment() | wrong, "it refuses the token of this process; put the cluster's token into"),
        (ray_head.environment() | none, "RAY_AUTH_MODE=token is set, and this process has no token; put"),
    ):
        command = [sys.executable, "-c", KNOCKS, ray_head.address, ray_head.client_address]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
        said = done.stdout.splitlines()
        assert len(said) == 2, done
        assert all(line.startswith(says) for line in said), said


def test_what_is_no_ray_cluster_is_said(ray_head: RayHead, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(blocks_csv())
    place = ("--input", str(log), "--output", str(tmp_path / "data"))
    done = das_command("prepare", *place, "--address", "localhost:1")
    (said,) = errors(done.stderr)
    assert said.startswith("error: The Ray cluster at localhost:1 cannot be joined: nobody answers there")
    web = ray_head.dashboard.removeprefix("http://")
    assert str(refusal(web)).startswith(
        "it is another server, not a Ray cluster; take the head's port, by default 6379"
    )
    assert str(refusal(f"ray://{web}")).startswith("it is another server, not a Ray cluster; take its client port")


@pytest.mark.slow
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
