"""Versions of Python, Ray and PyTorch on both sides of a session: code and tensors travel between driver and cluster.

Ray itself refuses another Ray or Python when a driver connects; :func:`refused` makes one sentence of what it says.
PyTorch, and nodes that were installed apart, are asked here, by a task on every node.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from typing import Any

from distill_at_scale.errors import ClusterError

NAMES = {"python": "Python", "ray": "Ray", "torch": "PyTorch"}
"""What is compared, and how a sentence calls it."""
NONE = "none"
"""The version of what is not installed."""
FIX = "install the same on both sides, such as the versions in the package's constraints.txt"
"""End of a sentence on versions that differ."""
_PATIENCE_S = 60.0


def here() -> dict[str, str]:
    """Versions in this process, without the build's name (``+cpu``)."""
    return {"python": platform.python_version(), "ray": _installed("ray"), "torch": _installed("torch")}


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return NONE


def agree(name: str, one: str, other: str) -> bool:
    """Whether two versions can work together: of Python the same minor version, of Ray and PyTorch the same."""
    return one.split(".")[:2] == other.split(".")[:2] if name == "python" else one == other


def difference(where: str, there: Mapping[str, str], driver: Mapping[str, str]) -> str | None:
    """One sentence without its full stop on which side has which version; None where they can work together.

    Args:
        where: The other side, as a sentence begins with it.
        there, driver: Version by name; what only one of them knows is not compared.
    """
    others = [name for name in NAMES if name in there and name in driver]
    others = [name for name in others if not agree(name, there[name], driver[name])]
    if not others:
        return None
    return f"{where} has {_said(there, others)}, this process has {_said(driver, others)}"


def _said(versions: Mapping[str, str], names: list[str]) -> str:
    return " and ".join(
        f"no {NAMES[name]}" if versions[name] == NONE else f"{NAMES[name]} {versions[name]}" for name in names
    )


def refused(where: str, message: str) -> str | None:
    """The sentence of :func:`difference` for a message in which Ray refuses a driver; None for any other message.

    The wording is Ray's own; tests/pipelines/runtime/test_versions.py takes it from Ray.
    """
    if "Version mismatch" not in message:
        return None
    found = {name: re.findall(rf"{NAMES[name]}: ([\w.+]+)", message) for name in ("ray", "python")}
    if any(len(versions) != 2 for versions in found.values()):
        return None
    there, driver = ({name: versions[side] for name, versions in found.items()} for side in (0, 1))
    # To Ray another patch version of Python is another Python, too.
    names = [name for name in found if there[name] != driver[name]]
    return f"{where} has {_said(there, names)}, this process has {_said(driver, names)}"


def require_alike(where: str, runtime_env: Mapping[str, Any] | None = None) -> None:
    """Makes sure that the nodes of the session have this process's versions. Needs a Ray session.

    Args:
        where: The cluster, as a sentence calls it.
        runtime_env: Of the tasks that look, instead of the session's.

    Raises:
        ClusterError: naming a node that has others, and both sides' versions.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    # Work is done on nodes with CPUs; a cluster that has started none yet is judged by its head.
    asked = [node for node in alive if node["Resources"].get("CPU", 0) >= 1] or alive
    look = ray.remote(num_cpus=0)(here)
    options = {"runtime_env": dict(runtime_env)} if runtime_env else {}
    answers = {}
    for node in asked:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answers[look.options(scheduling_strategy=there, **options).remote()] = node["NodeManagerAddress"]
    # A node that does not answer is busy or has gone: its tasks will say what is wrong with it.
    done, late = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE_S)
    for answer in late:
        ray.cancel(answer, force=True)
    driver = here()
    for answer in done:
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError:
            continue
        if sentence := difference(f"node {answers[answer]} of {where}", found, driver):
            raise ClusterError(f"{sentence[0].upper()}{sentence[1:]}; {FIX}.")
