"""jobs/kubernetes: KubeRay's CRDs reduced to the fields used, Ray's own reader, in step with cluster.yaml."""

from __future__ import annotations

import copy
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import distill_at_scale

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "jobs" / "kubernetes"
MACHINES = {"m6i.xlarge": (4, 16, 0), "m6i.4xlarge": (16, 64, 0), "g6.4xlarge": (16, 64, 1)}
"""vCPUs, GiB and GPUs of what cluster.yaml starts"""


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return dict(yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text()))


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return read("raycluster.yaml")


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (REPOSITORY / "distill_at_scale" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def on_aws() -> dict[str, Any]:
    return dict(yaml.safe_load((REPOSITORY / "cluster.yaml").read_text()))


def pods(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    return {
        name: group["template"]["spec"] for name, group in {"head": cluster["spec"]["headGroupSpec"], **groups}.items()
    }


def test_every_file_here_is_known() -> None:
    names = {file.name for file in FOLDER.iterdir()}
    known = {"Dockerfile", "Dockerfile.dockerignore", "README.md"}
    assert names == known | {"raycluster.yaml", "rayjob.yaml", "serviceaccount.yaml"}


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml", "serviceaccount.yaml"])
def test_the_schema_accepts_it(name: str, schema: dict[str, Any]) -> None:
    """Every field is one that KubeRay or Kubernetes has, and of its type."""
    content = read(name)
    jsonschema.validate(content, {"$ref": f"#/$defs/{content['kind']}", **schema})


def keys_of(content: Any) -> set[str]:
    """Names of all fields, at whatever depth."""
    if isinstance(content, list):
        return set[str]().union(*map(keys_of, content))
    return set[str](content).union(*map(keys_of, content.values())) if isinstance(content, dict) else set()


def fields_of(schema: Any) -> set[str]:
    """Names of all fields that a schema has, at whatever depth."""
    if isinstance(schema, list):
        return set[str]().union(*map(fields_of, schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties", {})
    return set[str](own).union(*map(fields_of, schema.values()))


def test_the_schema_has_no_field_that_is_not_used(schema: dict[str, Any]) -> None:
    """What it has was compared with KubeRay's CRDs; a field that nobody uses is one that nobody would compare."""
    used = set[str]().union(*(keys_of(read(file.name)) for file in FOLDER.glob("*.yaml")))
    assert fields_of(schema) <= used


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "enableIntreeAutoscaling"], True),
        (["spec", "authOptions", "mode"], "tokens"),
        (["spec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "workerGroupSpecs", 0, "minReplicas"], "0"),
        (["spec", "workerGroupSpecs", 0, "template", "spec", "restartpolicy"], "Never"),
        (
            ["spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources", "limits", "cpu"],
            "15 cores",
        ),
    ],
)
def test_the_schema_refuses_what_is_misspelt(
    path: list[Any], value: Any, cluster: dict[str, Any], schema: dict[str, Any]
) -> None:
    wrong = copy.deepcopy(cluster)
    *before, last = path
    place: Any = wrong
    for key in before:
        place = place[key]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, {"$ref": "#/$defs/RayCluster", **schema})


def test_ray_s_autoscaler_starts_from_zero(cluster: dict[str, Any]) -> None:
    """As Ray itself reads the resource, in the head's pod; this is private to it."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    named = {**cluster, "metadata": {**cluster["metadata"], "namespace": "default"}}
    config = _derive_autoscaling_config_from_ray_cr(named)
    head = config["available_node_types"].pop(config["head_node_type"])
    assert (head["resources"]["CPU"], head["resources"]["GPU"], head["max_workers"]) == (0, 0, 0)
    assert set(config["available_node_types"]) == {"cpu-worker", "gpu-worker"}
    for name, group in config["available_node_types"].items():
        assert group["min_workers"] == 0
        assert group["max_workers"] > 0
        assert group["resources"]["CPU"] == 15
        assert group["resources"].get("GPU", 0) == (name == "gpu-worker")


def test_it_is_in_step_with_cluster_yaml(cluster: dict[str, Any], on_aws: dict[str, Any]) -> None:
    assert cluster["spec"]["autoscalerOptions"]["idleTimeoutSeconds"] == 60 * on_aws["idle_timeout_minutes"]
    groups = {"head": 0, **{group["groupName"]: group["maxReplicas"] for group in cluster["spec"]["workerGroupSpecs"]}}
    types = {name.replace("_", "-"): kind for name, kind in on_aws["available_node_types"].items()}
    assert groups == {name: kind.get("max_workers", 0) for name, kind in types.items()}
    for name, pod in pods(cluster).items():
        cpus, gib, gpus = MACHINES[types[name]["node_config"]["InstanceType"]]
        limits = pod["containers"][0]["resources"]["limits"]
        assert limits == pod["containers"][0]["resources"]["requests"], "Ray counts what it is guaranteed"
        # What Kubernetes itself needs of a node is left to it.
        assert 0.7 * cpus <= limits["cpu"] < cpus
        assert 0.7 * gib <= int(limits["memory"].removesuffix("Gi")) < gib
        assert limits.get("nvidia.com/gpu", 0) == gpus
    assert pods(cluster)["cpu-worker"]["containers"][0]["env"] == [
        {"name": "AWS_REGION", "value": on_aws["provider"]["region"]}
    ]


def test_workers_are_on_spot_and_are_not_restarted_in_place(cluster: dict[str, Any]) -> None:
    all_pods = pods(cluster)
    assert "nodeSelector" not in all_pods.pop("head")
    for pod in all_pods.values():
        assert pod["nodeSelector"] == {"eks.amazonaws.com/capacityType": "SPOT"}
        assert pod["restartPolicy"] == "Never"
        memory = int(pod["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi"))
        (shared,) = [v["emptyDir"] for v in pod["volumes"] if v["name"] == "shared-memory"]
        # Ray takes 30 % of a node's memory for its objects, at most what /dev/shm has.
        assert int(shared["sizeLimit"].removesuffix("Gi")) == math.ceil(0.3 * memory) + 1


def test_nothing_is_open_and_no_key_is_written_down(cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    account = read("serviceaccount.yaml")["metadata"]["name"]
    assert {pod["serviceAccountName"] for pod in pods(cluster).values()} == {account}
    for file in FOLDER.iterdir():
        assert not re.search(r"AKIA|AWS_SECRET|AWS_ACCESS|aws_secret|aws_access", file.read_text())


def test_a_job_has_the_same_cluster_and_cleans_up(cluster: dict[str, Any]) -> None:
    job = read("rayjob.yaml")["spec"]
    assert job["rayClusterSpec"] == cluster["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > 0
    verb, *options = job["entrypoint"].removeprefix("das ").split()
    from distill_at_scale.cli import _parsed
    from distill_at_scale.cli.verbs import VERBS

    assert _parsed(verb, VERBS[verb], options)["output"] == "s3://BUCKET/data"


def test_images_and_versions_are_the_project_s(cluster: dict[str, Any], pins: dict[str, str]) -> None:
    assert cluster["spec"]["rayVersion"] == pins["ray"]
    images = {name: pod["containers"][0]["image"] for name, pod in pods(cluster).items()}
    image = f"REGISTRY/distill-at-scale:{distill_at_scale.__version__}"
    assert images == {"head": f"{image}-cpu", "cpu-worker": f"{image}-cpu", "gpu-worker": f"{image}-cuda"}
    text = (FOLDER / "Dockerfile").read_text()
    assert set(re.findall(r"REGISTRY\S+", text)) == set(images.values())


def test_the_image_installs_what_cluster_yaml_does(on_aws: dict[str, Any]) -> None:
    """The project's own lists; no version is written down again."""
    text = (FOLDER / "Dockerfile").read_text()
    assert not re.search(r"\w==\d", text)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert re.findall(r"^FROM python:(\S+)-slim$", text, re.M) == [project["tool"]["mypy"]["python_version"]]
    assert "wget" in text, "KubeRay's probes call it"
    for said in ("grep ^torch==", "--index-url https://download.pytorch.org/whl/cpu", "aiobotocore boto3"):
        assert said in text
        assert any(said in command for command in on_aws["setup_commands"])
    copied = re.findall(r"^COPY (.*) \S+$", text, re.M)
    allowed = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert sorted(" ".join(copied).split()) == sorted(allowed)
    assert all((REPOSITORY / name).exists() for name in allowed)


def test_the_readme_is_short_and_names_every_file() -> None:
    text = (FOLDER / "README.md").read_text()
    assert len(text.splitlines()) <= 12
    for file in FOLDER.iterdir():
        assert file.name in text or file.suffix in (".md", ".dockerignore")
