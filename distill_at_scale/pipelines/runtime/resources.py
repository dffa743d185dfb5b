"""What nodes there are and could be: CPUs, memory and GPUs to plan by, and how many threads a process may use.

A cluster that grows on demand is planned as it could be: its live nodes, and those that its autoscaler can start. What
is asked for and not up yet, :mod:`~distill_at_scale.pipelines.runtime.waiting` waits for.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from threadpoolctl import threadpool_limits

from distill_at_scale.errors import ClusterError
from distill_at_scale.facts import count_of
from distill_at_scale.pipelines.runtime.autoscaler import UNLIMITED, Autoscaler, NodeType, autoscaler
from distill_at_scale.pipelines.runtime.lost_nodes import lost_nodes

SHARE_OF_MEMORY = 0.7
"""Share of a node's memory that is given away."""
# Memory of a node that is not up and whose type does not tell it: as the leanest machines of clouds have.
_BYTES_PER_CPU = 2 << 30
_GROUP_LABEL = "ray.io/node-group"
_MANY = 1 << 20


@dataclass(frozen=True)
class Need:
    """What has to be on nodes at the same time: ``count`` tasks or workers of ``cpus`` and ``gpus`` each."""

    count: int
    cpus: float
    gpus: int = 0

    @property
    def bundle(self) -> dict[str, float]:
        """Ray's resources of one of them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def __str__(self) -> str:
        """``2 × (4 CPUs and 1 GPU)``."""
        each = _resources(self.cpus, self.gpus)
        return each if self.count == 1 else f"{self.count} × ({each})"


@dataclass(frozen=True)
class Nodes:
    """Nodes of one shape.

    Attributes:
        memory: bytes of one of them.
        up: number of those that are live.
        most: number that there could be.
        kind: node type, or "".
    """

    cpus: int
    gpus: int
    memory: float
    up: int
    most: int
    kind: str = ""

    def slots(self, cpus: float, gpus: int) -> int:
        """How many tasks of these CPUs and GPUs one node holds."""
        if self.cpus < cpus or self.gpus < gpus:
            return 0
        return min(int(self.cpus // cpus) if cpus else _MANY, self.gpus // gpus if gpus else _MANY)


@dataclass(frozen=True)
class Capacity:
    """Nodes to plan by.

    Attributes:
        nodes: by shape.
        growth: number of nodes that can be started.
    """

    nodes: tuple[Nodes, ...]
    growth: int = 0

    def slots(self, cpus: float, gpus: int = 0) -> int:
        """How many tasks of these CPUs and GPUs can run at the same time."""
        total, left = 0, self.growth
        for one in sorted(self.nodes, key=lambda one: -one.slots(cpus, gpus)):
            started = min(one.most - one.up, left)
            left -= started
            total += (one.up + started) * one.slots(cpus, gpus)
        return total

    def holds(self, need: Need) -> bool:
        """Whether what is needed can be there at the same time."""
        return self.slots(need.cpus, need.gpus) >= need.count

    @property
    def cpus(self) -> int:
        """CPUs of all nodes."""
        return self.slots(1)

    def largest(self, gpus: int = 0) -> int:
        """CPUs of the largest node with at least ``gpus`` GPUs; 0 without one."""
        able = [one for one in self.nodes if one.slots(1, gpus)]
        # A GPU node is not started for what needs none, unless only GPU nodes hold it.
        frugal = [one for one in able if gpus or one.up or not one.gpus]
        return max((one.cpus for one in frugal or able), default=0)

    def __str__(self) -> str:
        """``2 nodes of type cpu (8 CPUs) and 1 node of type gpu (4 CPUs and 1 GPU)``."""
        said = [
            f"{count_of(one.most, 'node') if one.most < UNLIMITED else 'any number of nodes'}"
            f"{f' of type {one.kind}' if one.kind else ''} ({_resources(one.cpus, one.gpus)})"
            for one in self.nodes
        ]
        return " and ".join(filter(None, [", ".join(said[:-1]), said[-1]])) if said else "no node"


def is_up() -> Capacity:
    """The nodes that are live. Needs a Ray session."""
    return Capacity(_merged(_live()))


def could_be() -> Capacity:
    """The nodes that are live, and those that can be started. Needs a Ray session."""
    return grown(_live(), autoscaler())


def could_be_back() -> Capacity:
    """The same, with the nodes that were lost lately, where no autoscaler says what there could be."""
    scaler = autoscaler()
    return grown(_live() if scaler.types else [*_live(), *_lost()], scaler)


def grown(live: Sequence[Nodes], scaler: Autoscaler) -> Capacity:
    """What some live nodes become with all that an autoscaler can start."""
    left, found, started = list(live), list[Nodes](), 0
    for kind in scaler.types:
        own = [one for one in left if _is_of(one, kind)]
        left = [one for one in left if one not in own]
        cpus, gpus = int(kind.resources.get("CPU", 0)), int(kind.resources.get("GPU", 0))
        memory = own[0].memory if own else float(kind.resources.get("memory", 0)) or _BYTES_PER_CPU * cpus
        found.append(Nodes(cpus, gpus, memory, len(own), max(kind.most, len(own)), kind.name))
        started += len(own)
    useful = [one for one in left if one.cpus or one.gpus] if found else left
    return Capacity((*_merged(useful), *found), max(scaler.most - started, 0) if found else 0)


def _is_of(node: Nodes, kind: NodeType) -> bool:
    if node.kind:
        return node.kind == kind.name
    return (node.cpus, node.gpus) == (kind.resources.get("CPU", 0), kind.resources.get("GPU", 0)) != (0, 0)


def _live() -> list[Nodes]:
    import ray

    return [_of_node(node) for node in ray.nodes() if node["Alive"]]


def _lost() -> list[Nodes]:
    return [_of_node({"Resources": resources}) for resources in lost_nodes()]


def _of_node(node: Mapping[str, Any]) -> Nodes:
    resources, kind = node["Resources"], (node.get("Labels") or {}).get(_GROUP_LABEL, "")
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    return Nodes(cpus, gpus, float(resources.get("memory", 0)), 1, 1, kind)


def _merged(nodes: Sequence[Nodes]) -> tuple[Nodes, ...]:
    return tuple(replace(one, up=n, most=n) for one, n in Counter(nodes).items())


# -- what is planned by it -------------------------------------------------------------------------------------


def has_room_beside_others(needed: int) -> bool:
    """Whether every node has the memory for as many processes of ``needed`` bytes as it has CPUs."""
    return all(needed * one.cpus <= SHARE_OF_MEMORY * one.memory for one in could_be().nodes if one.cpus)


def node_cpus(gpu: bool = False) -> int:
    """CPUs of the largest node that is up or could be, with a GPU where ``gpu`` says so; at least 1."""
    return max(1, could_be().largest(int(gpu)))


def cpus() -> int:
    """CPUs that the cluster has when it has grown; at least 1."""
    return max(1, could_be().cpus)


def cpus_each(workers: int, gpu: bool = False) -> int:
    """The most CPUs that each of ``workers`` can have.

    Raises:
        ClusterError: when there cannot be one for each.
    """
    capacity, gpus = could_be(), int(gpu)
    if found := _most_cpus(capacity, workers, gpus) or _most_cpus(could_be_back(), workers, gpus):
        return found
    what = "a CPU and a GPU" if gpu else "a CPU"
    have = capacity.slots(1, gpus)
    there = f"can have {have} at most: {capacity}" if capacity.growth else f"has {have}"
    raise ClusterError(f"--workers {workers} needs {what} for each, but the cluster {there}; set fewer.")


def _most_cpus(capacity: Capacity, workers: int, gpus: int) -> int:
    """The most CPUs of each; 0 where there cannot be one."""
    each = range(capacity.largest(gpus), 0, -1)
    return next((cpus for cpus in each if capacity.slots(cpus, gpus) >= workers), 0)


def cpus_of_some(least: int, most: int, gpu: bool = False) -> int:
    """The most CPUs that each of ``most`` workers can have; on a cluster that cannot hold all of them, of ``least``.

    Raises:
        ClusterError: when there cannot be one for each of ``least``.
    """
    return cpus_each(most if could_be().slots(1, int(gpu)) >= most else least, gpu)


def require_gpu() -> None:
    """Refuses a --gpu that nothing can come of.

    Raises:
        ClusterError: when no node has a GPU, and none with one can be started.
    """
    capacity = could_be()
    if not capacity.slots(0, 1) and not could_be_back().slots(0, 1):
        there = f"can have no GPU: it can have {capacity}" if capacity.growth else "has no GPU"
        raise ClusterError(f"--gpu is set, but the cluster {there}; leave it out, or add a GPU node.")


def require(need: Need) -> None:
    """Refuses what no node, and no node that could be started or come back, can hold.

    Raises:
        ClusterError: naming what could be had.
    """
    capacity = could_be()
    if not capacity.holds(need) and not could_be_back().holds(need):
        there = f"can have {capacity} at most" if capacity.growth else f"has {capacity}"
        raise ClusterError(f"The work needs {need}, but the cluster {there}; add nodes, or larger ones.")


def use_threads(cpus: int) -> None:
    """Sets the number of threads of torch and of the BLAS of NumPy and SciPy in this process, at most its cores.

    A Ray node may be given more CPUs than the machine has; threads that wait for one another while they share a core
    are slower than one alone. What is loaded is told, not only what will be: a worker's process runs one task after
    another, and the last bits of a matrix product depend on the number of threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(cpus, cores))
    # Read by libraries when they are loaded; OpenBLAS prefers its own variable.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _resources(cpus: float, gpus: int) -> str:
    also = f" and {count_of(gpus, 'GPU')}" if gpus else ""
    return count_of(cpus, "CPU") + also
