"""What a cluster could be, from its live nodes and its autoscaler's node types; no Ray runs here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.runtime.autoscaler import Autoscaler, NodeType, of_config
from distill_at_scale.pipelines.runtime.lost_nodes import NodeRecord, still_lost
from distill_at_scale.pipelines.runtime.resources import Capacity, Need, Nodes, grown

REPOSITORY = Path(__file__).resolve().parents[3]
GIB = 1 << 30
HEAD = Nodes(0, 0, 8.0 * GIB, 1, 1)
CPU_NODE = Nodes(8, 0, 32.0 * GIB, 1, 1)
SCALER = Autoscaler((NodeType("cpu", {"CPU": 8}, 4), NodeType("gpu", {"CPU": 16, "GPU": 2}, 2)), most=5)


def cluster(
    monkeypatch: pytest.MonkeyPatch, live: list[Nodes], scaler: Autoscaler, lost: list[Nodes] | None = None
) -> None:
    """A cluster of these nodes, as the functions that plan see it."""
    monkeypatch.setattr(resources, "_live", lambda: live)
    monkeypatch.setattr(resources, "_lost", lambda: lost or [])
    monkeypatch.setattr(resources, "autoscaler", lambda: scaler)


def test_a_cluster_of_no_nodes_is_planned_as_it_could_be() -> None:
    capacity = grown([HEAD], SCALER)
    # Five nodes at most: two with 16 CPUs, three with 8.
    assert capacity.cpus == 2 * 16 + 3 * 8
    assert capacity.slots(1, 1) == 4
    assert (capacity.largest(), capacity.largest(gpus=1), capacity.largest(gpus=3)) == (8, 16, 0)
    assert str(capacity) == "4 nodes of type cpu (8 CPUs) and 2 nodes of type gpu (16 CPUs and 2 GPUs)"


def test_live_nodes_are_not_counted_twice() -> None:
    for node in (CPU_NODE, Nodes(8, 0, 32.0 * GIB, 1, 1, "cpu")):
        capacity = grown([HEAD, node, node], SCALER)
        assert capacity.cpus == 2 * 16 + 3 * 8
        assert capacity.nodes[0].up == 2
        # What is up says how much memory a node of its type has.
        assert capacity.nodes[0].memory == 32 * GIB
    assert grown([HEAD], SCALER).nodes[0].memory == 16 * GIB, "2 GiB a CPU, where nothing tells it"


def test_a_gpu_node_is_started_for_gpus_only() -> None:
    assert grown([HEAD], SCALER).largest() == 8
    assert grown([HEAD, Nodes(16, 2, 64.0 * GIB, 1, 1, "gpu")], SCALER).largest() == 16, "it is up already"
    only = Autoscaler((NodeType("gpu", {"CPU": 16, "GPU": 2}, 2),))
    assert grown([HEAD], only).largest() == 16, "there is no other"


def test_without_an_autoscaler_the_live_nodes_count() -> None:
    capacity = grown([HEAD, CPU_NODE, CPU_NODE], Autoscaler())
    assert (capacity.cpus, capacity.growth) == (16, 0)
    assert capacity.holds(Need(2, 8))
    assert not capacity.holds(Need(3, 8))
    assert not capacity.holds(Need(1, 1, 1))


@pytest.mark.parametrize(("workers", "gpu", "cpus"), [(1, False, 8), (4, False, 8), (10, False, 4), (4, True, 8)])
def test_workers_have_the_most_cpus_that_each_can_have(
    monkeypatch: pytest.MonkeyPatch, workers: int, gpu: bool, cpus: int
) -> None:
    cluster(monkeypatch, [HEAD], SCALER)
    assert resources.cpus_each(workers, gpu) == cpus


def test_what_can_never_be_is_refused_and_the_largest_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, [HEAD], SCALER)
    with pytest.raises(ClusterError, match=r"^--workers 99 needs a CPU for each, but the cluster can have 56 at most"):
        resources.cpus_each(99)
    with pytest.raises(ClusterError, match=r"^--workers 5 needs a CPU and a GPU for each, but the cluster can have 4"):
        resources.cpus_each(5, gpu=True)
    with pytest.raises(ClusterError, match=r"^The work needs 32 CPUs, but the cluster can have 4 nodes of type cpu"):
        resources.require(Need(1, 32))
    resources.require_gpu()
    cluster(monkeypatch, [HEAD], Autoscaler((NodeType("cpu", {"CPU": 8}, 1),)))
    with pytest.raises(ClusterError, match=r"can have no GPU: it can have 1 node of type cpu \(8 CPUs\); leave it out"):
        resources.require_gpu()
    cluster(monkeypatch, [HEAD, CPU_NODE], Autoscaler())
    with pytest.raises(ClusterError, match=r"^--workers 9 needs a CPU for each, but the cluster has 8; set fewer\.$"):
        resources.cpus_each(9)


def test_a_node_that_was_just_lost_is_waited_for_where_nothing_else_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Nodes(16, 1, 0.0, 1, 1)
    cluster(monkeypatch, [HEAD, CPU_NODE], Autoscaler(), [lost])
    assert resources.cpus_each(1) == 8, "what is up serves"
    assert resources.node_cpus() == 8
    assert [resources.cpus_each(3), resources.cpus_each(9)] == [2, 2], "of one node, and of two"
    resources.require(Need(3, 8))
    resources.require_gpu()
    with pytest.raises(
        ClusterError, match=r"needs 4 × \(8 CPUs\), but the cluster has 1 node \(0 CPUs\) and 1 node \(8"
    ):
        resources.require(Need(4, 8))
    # An autoscaler's types say what there could be.
    cluster(monkeypatch, [HEAD], Autoscaler((NodeType("cpu", {"CPU": 8}, 1),)), [lost])
    with pytest.raises(ClusterError, match="needs a CPU for each"):
        resources.cpus_each(16)


def test_a_lost_node_is_expected_back_for_a_while_and_until_another_came() -> None:
    node, other = (("CPU", 8.0),), (("CPU", 4.0), ("GPU", 1.0))
    gone = NodeRecord(node, 10.0, 990.0)
    for records, lost in (
        ((gone, NodeRecord(other, 10.0, None)), [node]),
        ((NodeRecord(node, 10.0, 390.0),), []),
        ((NodeRecord(node, 10.0, 990.0, given_back=True),), []),
        ((gone, NodeRecord(node, 995.0, None)), []),
        ((gone, NodeRecord(node, 995.0, 999.0)), [node]),
        ((gone, NodeRecord(node, 20.0, None), NodeRecord(other, 995.0, None)), [node]),
        ((gone, NodeRecord(node, 20.0, 991.0), NodeRecord(node, 992.0, None)), [node]),
    ):
        assert still_lost(records, now=1000.0) == lost, records


def test_memory_beside_others_counts_on_nodes_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, [HEAD], SCALER)
    assert resources.has_room_beside_others(GIB)
    assert not resources.has_room_beside_others(2 * GIB)


def test_a_need_in_words() -> None:
    assert [str(Need(1, 1)), str(Need(3, 8, 1))] == ["1 CPU", "3 × (8 CPUs and 1 GPU)"]
    assert str(Capacity(())) == "no node"


def test_node_types_of_our_cluster_file() -> None:
    """`ray up` fills in the resources of the machines; the rest of the file is as here."""
    config = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    scaler = of_config(config)
    assert [(one.name, one.most) for one in scaler.types] == [("cpu_worker", 12), ("gpu_worker", 4)]
    assert scaler.most == 16
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}


def test_node_types_of_kuberay() -> None:
    """Read of a RayCluster by Ray's own code, which its autoscaler calls."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    def group(name: str, limits: dict[str, str], most: int) -> dict[str, object]:
        container = {"name": "ray", "resources": {"limits": limits}}
        pod = {"spec": {"containers": [container]}}
        return {"groupName": name, "minReplicas": 0, "maxReplicas": most, "rayStartParams": {}, "template": pod}

    head = group("", {"cpu": "2", "memory": "8Gi"}, 0) | {"rayStartParams": {"num-cpus": "0"}}
    workers = [
        group("cpu", {"cpu": "8", "memory": "32Gi"}, 6),
        group("gpu", {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}, 2),
    ]
    spec = {"headGroupSpec": head, "workerGroupSpecs": workers, "enableInTreeAutoscaling": True}
    scaler = of_config(
        _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "das", "namespace": "ml"}, "spec": spec})
    )
    assert str(grown([HEAD], scaler)) == "6 nodes of type cpu (8 CPUs) and 2 nodes of type gpu (4 CPUs and 1 GPU)"
    assert grown([HEAD], scaler).nodes[0].memory == 32 * GIB


def test_libraries_that_are_loaded_already_are_told_how_many_threads_to_use() -> None:
    script = """
import os, sys
os.sched_getaffinity = lambda pid: set(range(3))  # whatever this machine has
import scipy.linalg
from threadpoolctl import threadpool_info
from distill_at_scale.pipelines.runtime.resources import use_threads
for threads in (3, 1, 2):
    use_threads(threads)
    print({of["num_threads"] for of in threadpool_info() if of["user_api"] == "blas"})
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["{3}", "{1}", "{2}"]
