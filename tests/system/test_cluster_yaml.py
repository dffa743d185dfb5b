"""cluster.yaml: Ray's own validation, offline; and what we promise about versions, spot, cost and open doors."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def text() -> str:
    return (REPOSITORY / "cluster.yaml").read_text()


@pytest.fixture(scope="module")
def written(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text))


@pytest.fixture(scope="module")
def prepared(written: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    return dict(prepare_config(copy.deepcopy(written)))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (REPOSITORY / "distill_at_scale" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def workers(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in config["available_node_types"].items() if k != config["head_node_type"]}


def commands(config: dict[str, Any]) -> list[str]:
    keys = ("initialization_commands", "head_setup_commands", "worker_setup_commands")
    starts = ("head_start_ray_commands", "worker_start_ray_commands")
    return [command for key in (*keys, *starts) for command in config[key]]


def test_ray_accepts_it(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)
    assert prepared["provider"]["type"] == "aws"


def test_ray_rejects_what_is_misspelt(prepared: dict[str, Any]) -> None:
    """The validation above can fail at all."""
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "idle_timeout": 5})


def test_every_key_is_one_that_ray_reads(written: dict[str, Any]) -> None:
    """Ray's schema lets unknown keys of node types pass; they would be ignored without a word."""
    known = {"min_workers", "max_workers", "resources", "node_config", "labels", "docker"}
    known |= {"initialization_commands", "worker_setup_commands"}
    for node_type in written["available_node_types"].values():
        assert set(node_type) <= known


def test_ec2_accepts_every_node_config(written: dict[str, Any]) -> None:
    """Against EC2's own API model, which lies in botocore: misspelt or mistyped fields are named."""
    import botocore.session
    import botocore.validate

    shape = botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for node_type in written["available_node_types"].values():
        report = botocore.validate.ParamValidator().validate(
            {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}, shape
        )
        assert not report.has_errors(), report.generate_report()


def test_workers_start_from_zero_on_spot(prepared: dict[str, Any]) -> None:
    for node_type in workers(prepared).values():
        assert node_type["min_workers"] == 0
        assert node_type["max_workers"] > 0
        assert node_type["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert sum(node_type["max_workers"] for node_type in workers(prepared).values()) <= prepared["max_workers"]
    families = {node_type["node_config"]["InstanceType"][0] for node_type in workers(prepared).values()}
    assert families == {"m", "g"}, "one group with GPUs, one without"
    assert 0 < prepared["idle_timeout_minutes"] <= 15
    assert prepared["provider"]["cache_stopped_nodes"] is False


def test_the_head_is_on_demand_and_takes_no_work(prepared: dict[str, Any]) -> None:
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert "--num-cpus=0" in prepared["head_start_ray_commands"][-1]


def test_nothing_is_open_to_the_world(text: str, prepared: dict[str, Any]) -> None:
    assert "0.0.0.0" not in text
    assert "::/0" not in text
    # Without ids of its own on every type, Ray makes a group that lets the whole internet reach port 22.
    for node_type in prepared["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"]
    assert "security_group" not in prepared["provider"]
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]


def test_the_token_reaches_every_node_and_ray_asks_for_it(prepared: dict[str, Any]) -> None:
    home = f"/home/{prepared['auth']['ssh_user']}"
    assert prepared["file_mounts"][f"{home}/.ray/auth_token"] == "~/.ray/auth_token"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "export RAY_AUTH_MODE=token" in prepared[key][-1]
    assert any("RAY_AUTH_MODE=token" in command for command in prepared["initialization_commands"])


def test_no_credentials_are_in_it(text: str, prepared: dict[str, Any]) -> None:
    assert not re.search(r"AKIA|AWS_SECRET|AWS_ACCESS|aws_secret|aws_access", text)
    for node_type in prepared["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Name"].startswith("distill-at-scale")
        assert node_type["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_versions_are_the_project_s(prepared: dict[str, Any], pins: dict[str, str]) -> None:
    """Nodes get the project's own lists as files and install what they name; no version is written down again."""
    said = " ".join(commands(prepared))
    assert not re.search(r"\w==\d", said)
    mounted = {local: remote for remote, local in prepared["file_mounts"].items()}
    home = f"/home/{prepared['auth']['ssh_user']}/das"
    for file in ("pyproject.toml", "distill_at_scale/constraints.txt"):
        assert mounted[file] == f"{home}/{Path(file).name}"
    installs = [command for command in prepared["worker_setup_commands"] if "requirements.txt aiobotocore" in command]
    assert [command.count("-c ~/das/constraints.txt") for command in installs] == [1]
    assert {"ray", "torch"} <= set(pins)
    pythons = set(re.findall(r"python(\d\.\d+)", said))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert pythons == {project["tool"]["mypy"]["python_version"]}


def test_the_cpu_build_has_the_version_that_is_tested(
    prepared: dict[str, Any], pins: dict[str, str], tmp_path: Path
) -> None:
    """The command is run with a pip that prints what it is given, on a machine without a GPU."""
    (command,) = [c for c in prepared["worker_setup_commands"] if "whl/cpu" in c]
    pip = tmp_path / "das" / "venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    shutil.copy(REPOSITORY / "distill_at_scale" / "constraints.txt", tmp_path / "das")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "grep").symlink_to(shutil.which("grep") or "/bin/grep")
    environment = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}
    done = subprocess.run(["/bin/bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[2:] == [f"torch=={pins['torch']}", "--index-url", "https://download.pytorch.org/whl/cpu"]


def test_the_requirements_command_gives_the_project_s_dependencies(prepared: dict[str, Any], tmp_path: Path) -> None:
    """The command is run as the node would run it, with another Python and another home."""
    (command,) = [c for c in prepared["worker_setup_commands"] if "tomllib" in c]
    (tmp_path / "das").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path / "das")
    local = command.replace("~/das/venv/bin/python", shlex.quote(sys.executable))
    subprocess.run(
        ["bash", "-c", local], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (tmp_path / "das" / "requirements.txt").read_text().splitlines() == project["dependencies"]


def test_every_command_is_bash(prepared: dict[str, Any]) -> None:
    for command in commands(prepared):
        subprocess.run(["bash", "-n", "-c", command], check=True)
