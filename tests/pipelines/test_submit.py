"""What travels with a job, and what is said of an address that is not a dashboard."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

import distill_at_scale as das
from distill_at_scale.config import SubmitConfig
from distill_at_scale.errors import ClusterError, SettingError
from distill_at_scale.pipelines import submit as module
from distill_at_scale.pipelines.runtime import plugins
from distill_at_scale.pipelines.runtime.jobs import Dashboard

REPOSITORY = Path(__file__).resolve().parents[2]


def packed(folder: Path, target: Path, **options: Any) -> dict[str, int]:
    """Files and their sizes as Ray packs a folder, by its own function; the package is written to ``target``."""
    from ray._private.runtime_env.packaging import create_package

    create_package(str(folder), target, include_gitignore=True, **options)
    with zipfile.ZipFile(target) as archive:
        return {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}


def test_credentials_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "MLFLOW_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("DAS_PLUGINS", "mine")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    env = module.runtime_env(str(tmp_path))
    assert "a-secret" not in json.dumps(env)
    assert env["env_vars"]["AWS_REGION"] == "eu-west-1"
    assert env["env_vars"]["DAS_PLUGINS"] == "mine"
    assert "AWS_ENDPOINT_URL" not in env["env_vars"]
    assert "pip" not in env


@pytest.mark.parametrize("settings", [{"mlflow": "http://me:secret@host"}, {"input": ["a", "s3://me:secret@bucket"]}])
def test_a_password_in_a_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="with a user name or password in the address; remove it") as told:
        das.submit("sweep", settings=settings)
    assert "secret" not in str(told.value)


def test_the_package_and_plugins_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "folders", lambda: ["/somewhere/mine.py"])
    env = module.runtime_env(str(tmp_path), install=True)
    package, plugin = env["py_modules"]
    assert (Path(package), plugin) == (REPOSITORY / "distill_at_scale", "/somewhere/mine.py")
    files = packed(Path(package), tmp_path / "package.zip", excludes=env["excludes"])
    assert {"__main__.py", "constraints.txt", "genie/trained/genie.json"} <= set(files)
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
    assert (tmp_path / "package.zip").stat().st_size < 4 << 20
    names = {pin.partition("==")[0] for pin in env["pip"]["packages"]}
    assert {"polars", "pyarrow", "s3fs"} <= names
    assert not {"ray", "torch"} & names
    assert all("==" in pin for pin in env["pip"]["packages"])


def test_a_working_directory_carries_only_what_is_needed(tmp_path: Path) -> None:
    """`ray job submit --working-dir .`, in a folder where everything has been used."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    copy = tmp_path / "checkout"
    for name in filter(None, listed.stdout.decode().split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_file():
            target.write_bytes((REPOSITORY / name).read_bytes())
    for name in (
        ".venv/bin/weed",
        ".git/objects/pack",
        "das-quickstart/data/part",
        "distill_at_scale/__pycache__/a.pyc",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"x" * 1000)
    files = packed(copy, tmp_path / "package.zip")
    assert {"distill_at_scale/__main__.py", "jobs/prepare.py", "jobs/configs/prepare.yaml", "pyproject.toml"} <= set(
        files
    )
    tops = {name.partition("/")[0] for name in files}
    assert not tops & {".venv", ".git", ".ci", "das-quickstart", "tests", "notebooks"}
    assert not [name for name in files if "__pycache__" in name or name.startswith("jobs/results/")]
    assert (tmp_path / "package.zip").stat().st_size < 4 << 20


class _Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *arguments: Any) -> None:
        pass


def test_what_is_no_dashboard_is_said_to_be_none() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ClusterError, match="is not Ray's dashboard; set --address"):
            Dashboard(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_that_answers_nobody_is_one_sentence() -> None:
    with pytest.raises(ClusterError, match=r"^No Ray dashboard answers at http://127.0.0.1:1 \(.*\); open a way"):
        module.submit(SubmitConfig(verb="inspect", settings={"data": "/data"}, address="http://127.0.0.1:1"))
