"""The Ray session of a verb: a cluster that is there already, or one on this machine for as long as needed."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distill_at_scale
from distill_at_scale.errors import DasError

# One thread a task: Ray runs as many tasks as there are cores. Read when the libraries are first imported.
# And where a task has several, those that wait give their core away instead of turning on it: on a machine with other
# work that is the difference between a fit and several.
_WORKER_ENV = {"POLARS_MAX_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# What a session on this machine keeps for objects: what moves through it here is counts and item ids.
_LOCAL_OBJECT_STORE = 512 << 20
# How much of a node's memory is given away.
_SHARE_OF_MEMORY = 0.7


@contextlib.contextmanager
def session(address: str | None = None, num_cpus: int | None = None) -> Iterator[None]:
    """Connects to Ray for a block; a session that this block started ends with it, any other stays.

    Args:
        address: of an existing cluster (``auto``, ``host:port``, ``ray://…``); None joins the session that is
            already there (inside a job, a notebook, a test) and else starts one on this machine.
        num_cpus: of a session started here; default: all.

    Raises:
        DasError: when the cluster cannot be reached.
    """
    there = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    connect(address, num_cpus)
    import ray

    try:
        yield
    finally:
        if not there:
            ray.shutdown()


def connect(address: str | None = None, num_cpus: int | None = None) -> None:
    """Connects to Ray for good: every verb that this process calls afterwards uses that session.

    For notebooks and scripts that call several verbs, each of which would start Ray and end it again. The session ends
    with the process, or by ``ray.shutdown()``; one that is there already stays as it is.

    Args:
        address, num_cpus: as :func:`session` has them.

    Raises:
        DasError: when the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # As it is imported in a notebook, it would tell of widgets that could be installed.
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)
    import ray

    if ray.is_initialized():
        _quiet()
        return
    runtime_env: dict[str, Any] = {"env_vars": dict(_WORKER_ENV)}
    # Inside a job the cluster is named by RAY_ADDRESS, and the job's working directory holds the package.
    joining = address is not None or "RAY_ADDRESS" in os.environ
    if joining and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        runtime_env["py_modules"] = [str(Path(distill_at_scale.__file__).parent)]
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if joining:
        options |= {"address": address, "runtime_env": runtime_env}
    else:
        os.environ.update(_WORKER_ENV)
        # Ray would run its workers at nice 15, behind everything else on the machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # A process per fit that looks out for spot machines being taken away, of which this is none.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        options |= {
            "address": "local",
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": _LOCAL_OBJECT_STORE,
        }
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises this very class when a machine is too busy to start in time
        where = f"the Ray cluster at {address or os.environ.get('RAY_ADDRESS')}" if joining else "Ray on this machine"
        reason = " ".join(str(error).split())[:300]
        raise DasError(f"{where} cannot be reached or started: {reason} Run `das doctor` for the mend.") from error
    _quiet()


def nodes() -> list[tuple[int, float]]:
    """CPUs and bytes of memory of every node that is up and has a CPU."""
    import ray

    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(node["CPU"]), float(node.get("memory", 0))) for node in found if node.get("CPU", 0) >= 1]


def has_room_beside_others(needed: int) -> bool:
    """Whether every node has the memory for as many processes of ``needed`` bytes as it has CPUs."""
    return all(needed * cpus <= _SHARE_OF_MEMORY * memory for cpus, memory in nodes())


def node_cpus() -> int:
    """CPUs of the largest node that is up; at least 1."""
    return max([1, *(cpus for cpus, _ in nodes())])


def require_gpu() -> None:
    """Refuses a --gpu that nothing can come of.

    Raises:
        DasError: when no node has a GPU.
    """
    import ray

    if not ray.cluster_resources().get("GPU"):
        raise DasError("--gpu is set, but the cluster has no GPU; leave it out, or add a GPU node.")


def use_threads(cpus: int) -> None:
    """Lets torch use so many threads in this process, but no more than there are cores to run them.

    A Ray node may be given more CPUs than the machine has; threads that wait for one another while they share a core
    are slower than one alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(cpus, cores))
    # torch reads this when it is imported, which not every process has to do.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _quiet() -> None:
    """Ray Data's own notes stay out of our output; its warnings stay in."""
    import ray.data

    assert ray.data  # sets up its loggers, which would undo what follows
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that there are no bars, which is what we ask for.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
