"""What the cluster's nodes offer: CPUs, memory and GPUs, and how many threads a process may use."""

from __future__ import annotations

import os
import sys

from distill_at_scale.errors import ClusterError

# How much of a node's memory is given away.
_SHARE_OF_MEMORY = 0.7


def nodes() -> list[tuple[int, float]]:
    """CPUs and bytes of memory of every node that is up and has a CPU."""
    import ray

    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(node["CPU"]), float(node.get("memory", 0))) for node in found if node.get("CPU", 0) >= 1]


def cpus() -> int:
    """CPUs of all nodes that are up."""
    return sum(cpus for cpus, _ in nodes())


def has_room_beside_others(needed: int) -> bool:
    """Whether every node has the memory for as many processes of ``needed`` bytes as it has CPUs."""
    return all(needed * cpus <= _SHARE_OF_MEMORY * memory for cpus, memory in nodes())


def node_cpus() -> int:
    """CPUs of the largest node that is up; at least 1."""
    return max([1, *(cpus for cpus, _ in nodes())])


def require_gpu() -> None:
    """Refuses a --gpu that nothing can come of.

    Raises:
        ClusterError: when no node has a GPU.
    """
    import ray

    if not ray.cluster_resources().get("GPU"):
        raise ClusterError("--gpu is set, but the cluster has no GPU; leave it out, or add a GPU node.")


def use_threads(cpus: int) -> None:
    """Sets the number of torch threads of this process, at most the number of cores.

    A Ray node may be given more CPUs than the machine has; threads that wait for one another while they share a core
    are slower than one alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(cpus, cores))
    # torch reads this when it is imported, which not every process has to do.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
