"""The whole path on a real S3 server and as jobs on a real Ray head: log → Dataset → model → metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from servers import RayHead, S3Server, free_ports

import distill_at_scale as das
from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

REPOSITORY = Path(__file__).resolve().parents[2]


def blocks_csv(n_users: int = 120, n_items: int = 40, seed: int = 0) -> bytes:
    """A log of two groups of users, each with its own half of the items: easy to rank for any model that learns."""
    rng = np.random.default_rng(seed)
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(n_users):
        half = rng.permutation(n_items // 2)[:12] + (user % 2) * n_items // 2
        lines += [f"u{user},i{item},{rng.integers(1, 6)},{1_500_000_000 + 60 * k}" for k, item in enumerate(half)]
    return ("\n".join(lines) + "\n").encode()


def das_command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_at_scale.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
    )


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_everything_lies_on_s3(s3: S3Server, s3_folder: str, ray_session: None) -> None:
    storage.write_bytes(f"{s3_folder}/raw/log.csv", blocks_csv())
    data = das.prepare(input=[f"{s3_folder}/raw/"], output=f"{s3_folder}/data", split="leave_2", shards=3)
    assert (data.n_users, data.n_items, data.n_rows) == (120, 40, 1440)
    data.verify()
    model = das.fit(data=data.uri, model="ease", output=f"{s3_folder}/ease")
    result = das.evaluate(data=data.uri, model=model.uri, output=f"{s3_folder}/ease.json")
    # The user's half has 20 items, of which 11 are masked: even a random ranking of the half has hr@10 = 1.
    assert result.metrics["hr@10"] == 1.0
    written = storage.read_json(f"{s3_folder}/ease.json")
    assert written["metrics"] == result.metrics
    assert s3.env["AWS_SECRET_ACCESS_KEY"] not in json.dumps([written, data.summary()])
    left = {f.uri[len(s3_folder) :].split("/")[2] for f in storage.list_files(f"{s3_folder}/data")}
    assert left == {"manifest.json", "items.parquet", "users", "shards", "run.json"}


def test_a_public_log_is_fetched_to_s3(s3: S3Server, s3_folder: str, ray_session: None) -> None:
    try:
        log = das.fetch(name="ml-100k", output=f"{s3_folder}/raw")
    except DasError as error:
        pytest.skip(f"no source of ml-100k can be reached from here: {error}")
    data = das.prepare(input=log.uris, output=f"{s3_folder}/data", split="20_percent_hist", **log.options)
    assert (data.n_users, data.n_items, data.n_rows) == (943, 1682, 100_000)


def test_a_wrong_key_and_a_missing_bucket_are_one_sentence(s3: S3Server, s3_folder: str) -> None:
    storage.write_bytes(f"{s3_folder}/log.csv", blocks_csv())
    arguments = ("prepare", "--input", f"{s3_folder}/log.csv", "--output", f"{s3_folder}/data", "--json")
    done = das_command(*arguments, env={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert done.returncode == 1
    assert len(errors(done.stderr)) == 1
    assert "denied" in errors(done.stderr)[0]
    assert json.loads(done.stdout.splitlines()[-1])["error"] == errors(done.stderr)[0].removeprefix("error: ")
    done = das_command("prepare", "--input", f"{s3_folder}/log.csv", "--output", "s3://no-such-bucket/data")
    assert (done.returncode, len(errors(done.stderr))) == (1, 1)
    assert "bucket does not exist" in errors(done.stderr)[0]


@pytest.mark.slow
def test_a_server_that_goes_away_is_one_sentence(run_folder: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    env["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_ports(1)[0]}"
    server = S3Server(run_folder / "s3-that-goes-away", env)
    server.start()
    log = run_folder / "log-for-s3.csv"
    log.write_bytes(blocks_csv())
    command = [sys.executable, "-m", "distill_at_scale.cli", "prepare", "--input", str(log)]
    command += ["--output", server.uri("data"), "--shards", "64"]
    process = subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("read the log"):
            break
    server.stop()
    stopped = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(240) == 1, "".join(seen) + rest
    assert len(errors(rest)) == 1
    assert "cannot be reached" in errors(rest)[0]
    assert time.monotonic() - stopped < 240


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


def test_the_job_configs_are_valid() -> None:
    from distill_at_scale import config

    models = {name.lower(): getattr(config, name) for name in dir(config) if name.endswith("Config")}
    # `genie train` of the command line is train_genie.yaml beside train_genie.py.
    models["train_genieconfig"] = config.GenieTrainConfig
    for file in (REPOSITORY / "jobs" / "configs").glob("*.yaml"):
        config.load(models[f"{file.stem}config"], str(file))
