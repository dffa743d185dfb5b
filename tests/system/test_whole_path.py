"""The whole path on a real S3 server: log → Dataset → model → metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import S3Server, free_ports
from system_kit import blocks_csv, das_command, errors

import distill_at_scale as das
from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.settings import load

REPOSITORY = Path(__file__).resolve().parents[2]


def test_everything_lies_on_s3(s3: S3Server, s3_folder: str, ray_session: None) -> None:
    storage.write_bytes(f"{s3_folder}/raw/log.csv", blocks_csv())
    data = das.prepare(input=[f"{s3_folder}/raw/"], output=f"{s3_folder}/data", split="leave_2", shards=9)
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
    assert left == {"manifest.json", "items.parquet", "users", "shards", "run.json", "log.json"}


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
    rest = process.stderr.read()
    assert process.wait(240) == 1, "".join(seen) + rest
    assert len(errors(rest)) == 1
    assert "cannot be reached" in errors(rest)[0]


def test_the_job_configs_are_valid() -> None:
    from distill_at_scale import config

    models = {name.lower(): getattr(config, name) for name in dir(config) if name.endswith("Config")}
    # `genie train` of the command line is train_genie.yaml beside train_genie.py.
    models["train_genieconfig"] = config.GenieTrainConfig
    for file in (REPOSITORY / "jobs" / "configs").glob("*.yaml"):
        load(models[f"{file.stem}config"], str(file))
