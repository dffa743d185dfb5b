"""Models, samplers and distillers from outside the package: on every node of a cluster, or a sentence on where not.

Nothing of them travels: a worker imports them by the name that it is told. So their code must be on every node.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

from distill_at_scale import registry
from distill_at_scale.errors import ClusterError, PluginError

HOW_TO_SHIP = (
    "install it there, or ship it with the run: das.connect(address, runtime_env={'py_modules': [FOLDER]}), or "
    "{'pip': [PACKAGE]}, or `ray job submit --working-dir FOLDER -- das …`."
)
"""End of a sentence on a node that lacks a plugin."""
_checked: set[tuple[str, str]] = set()
"""(node, name) that were found there"""


def folders() -> list[str]:
    """Folders and files of the plugins that this process has been told to use, as Ray ships them (``py_modules``); not
    of those that are installed, which the nodes must have installed too."""
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    found = []
    for name in registry.used():
        module = sys.modules.get(name.partition(":")[0].partition(".")[0])
        file = getattr(module, "__file__", None) if registry.is_spec(name) else None
        if file is not None and not any(Path(file).is_relative_to(folder) for folder in installed):
            path = Path(file)
            found.append(str(path.parent if path.name == "__init__.py" else path))
    return list(dict.fromkeys(found))


def require_on_nodes() -> None:
    """Makes sure that every node can import what this process has been told to use. Needs a Ray session.

    Raises:
        ClusterError: naming the node that cannot, and why.
    """
    names = registry.used()
    if not names:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(_missing)
    asked: dict[Any, tuple[str, str]] = {}
    for node in ray.nodes():
        new = [name for name in names if (node["NodeID"], name) not in _checked]
        if node["Alive"] and new:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[look.options(scheduling_strategy=there).remote(new)] = (node["NodeID"], called(node))
    for ref, (node_id, node_name) in asked.items():
        try:
            missing = ray.get(ref)
        except ray.exceptions.RayError:
            # A node that has gone, or is not ready: its tasks will say what is wrong with it.
            continue
        if missing:
            raise ClusterError(f"Node {node_name}: {missing.rstrip('.')}; {HOW_TO_SHIP}")
        _checked.update((node_id, name) for name in names)


def elsewhere(error: PluginError) -> ClusterError:
    """What a worker says that lacks a plugin: which node it runs on, and what to do."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    name = next((called(node) for node in ray.nodes() if node["NodeID"] == mine), mine)
    return ClusterError(f"Node {name}: {str(error).rstrip('.')}; {HOW_TO_SHIP}")


def called(node: dict[str, Any]) -> str:
    """A node of ``ray.nodes()`` as sentences name it."""
    return f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']}, {node['NodeID'][:8]})"


def _missing(names: list[str]) -> str | None:
    """Why one of some plugins cannot be used here; None where all can."""
    for name in names:
        try:
            registry.EXTENSIBLE.find(name)
        except PluginError as error:
            return str(error)
        except KeyError:
            return f"no package that is installed there has an entry point '{name}'"
    return None
