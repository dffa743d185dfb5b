"""Driver and cluster: which side has which version, in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import session, versions

CLUSTER = "the Ray cluster at host:6379"
MINE = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({}, None),
        ({"python": "3.11.2"}, None),
        ({"torch": "2.12.1"}, "has PyTorch 2.12.1, this process has PyTorch 2.13.0"),
        ({"torch": versions.NONE}, "has no PyTorch, this process has PyTorch 2.13.0"),
        (
            {"python": "3.12.7", "ray": "2.59.0"},
            "has Python 3.12.7 and Ray 2.59.0, this process has Python 3.11.7 and Ray 2.60.0",
        ),
    ],
)
def test_each_side_is_named_with_its_versions(there: dict[str, str], told: str | None) -> None:
    expected = None if told is None else f"{CLUSTER} {told}"
    assert versions.difference(CLUSTER, {**MINE, **there}, MINE) == expected


def test_versions_are_those_that_are_imported() -> None:
    import torch

    assert versions.here()["ray"] == ray.__version__
    assert versions.here()["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"ray_version": "2.1.0"}, "has Ray 2.1.0, this process has Ray {ray}"),
        ({"python_version": "3.99.1"}, "has Python 3.99.1, this process has Python {python}"),
    ],
)
def test_ray_s_own_refusal_becomes_one_sentence(
    other: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is Ray's: were it worded otherwise one day, this would fail."""
    from ray._private.utils import check_version_info

    mine = versions.here()
    metadata = {"ray_version": mine["ray"], "python_version": mine["python"], **other}
    with pytest.raises(RuntimeError) as refused:
        check_version_info(metadata, "node 10.0.0.1")
    expected = f"{CLUSTER} {told.format(**mine)}"
    assert versions.refused(CLUSTER, str(refused.value)) == expected

    def refuse(options: dict[str, object]) -> None:
        raise refused.value

    monkeypatch.setattr(session, "_init", refuse)
    monkeypatch.setattr(session.knock, "refusal", lambda address: None)
    with pytest.raises(ClusterError) as said:
        session._join({}, "host:6379")
    assert str(said.value) == f"T{expected[1:]}; {versions.FIX}."


def test_other_messages_are_left_alone() -> None:
    assert versions.refused(CLUSTER, "Could not find any running Ray instance.") is None


def test_a_node_with_another_torch_is_refused(ray_session: None, tmp_path: Path) -> None:
    """Real tasks: in this environment, and in one that finds another torch before this one."""
    versions.require_alike("the session")
    _other_torch(tmp_path)
    repository = Path(__file__).resolve().parents[3]
    with pytest.raises(ClusterError) as said:
        versions.require_alike("the session", {"env_vars": {"PYTHONPATH": f"{tmp_path}:{repository}"}})
    assert str(said.value).startswith("Node ")
    mine = versions.here()["torch"]
    assert f"of the session has PyTorch 1.2.3, this process has PyTorch {mine}; install the same" in str(said.value)


@pytest.mark.slow
def test_connect_says_so_and_leaves_no_session(ray_session: None, tmp_path: Path) -> None:
    """A driver with another torch than the cluster of this test run."""
    _other_torch(tmp_path)
    # Not beside it: workers have the folder of their driver's script on their path.
    script = tmp_path / "script" / "driver.py"
    script.parent.mkdir()
    script.write_text(
        "import sys, distill_at_scale as das, ray\n"
        "try:\n    das.connect(sys.argv[1])\n"
        "except das.DasError as error:\n    print(ray.is_initialized(), error)\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, str(script), ray.get_runtime_context().gcs_address],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    told = done.stdout.splitlines()[-1]
    assert told.startswith("False Node ")
    assert f"has PyTorch {versions.here()['torch']}, this process has PyTorch 1.2.3; install the same" in told


def _other_torch(folder: Path) -> None:
    """What says of torch that it has another version, for whoever has ``folder`` first on its path."""
    about = folder / "torch-1.2.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n")
