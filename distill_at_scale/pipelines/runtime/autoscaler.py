"""What a cluster's autoscaler can start, and what it is starting; the one file that asks Ray's private interfaces.

Ray's own ``get_cluster_config()`` knows the node types on managed clusters only: the open-source autoscalers leave it
empty. So a task on the head node reads what they read: the file that ``ray up`` and ``ray start --autoscaling-config``
give to the autoscaler, or the RayCluster resource of KubeRay. tests/system/test_from_zero.py runs it against Ray.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from distill_at_scale.pipelines.runtime import progress

HEAD = "node:__internal_head__"
"""Resource of the node that runs the head."""
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
UNLIMITED = 1024
"""Number of nodes where nothing limits it."""
# The limits of a cluster can be changed while it runs.
_KNOWN_FOR_S = 60.0
_FOR_GOOD = 1e12
_KEY, _NAMESPACE = b"node_types", b"distill_at_scale"
_PATIENCE_S = 8.0
# A busy head takes long to start a task; without its answer, a cluster that has no nodes yet would be refused.
_HEADS_PATIENCE_S = 90.0


@dataclass(frozen=True)
class NodeType:
    """Nodes of one kind.

    Attributes:
        resources: Ray's resources of one node; CPU, GPU and memory (bytes) among them, as far as they are known.
        most: number of nodes at most, those that are up included.
    """

    name: str
    resources: Mapping[str, float]
    most: int


@dataclass(frozen=True)
class Autoscaler:
    """Node types that can be started; none without an autoscaler, or where nobody may read them.

    Attributes:
        most: number of worker nodes of all types at most.
    """

    types: tuple[NodeType, ...] = ()
    most: int = UNLIMITED


def autoscaler() -> Autoscaler:
    """What the autoscaler of the session's cluster can start. Needs a Ray session.

    What one process learns, the cluster's key-value store keeps for all for a while.
    """
    import ray
    from ray.experimental import internal_kv

    kept = internal_kv._internal_kv_get(_KEY, namespace=_NAMESPACE)
    if kept and (known := json.loads(kept))["until"] > time.time():
        return of_config(known["config"])
    node = ray._private.worker._global_node
    config: dict[str, Any] | None
    if node is not None and node.head:
        # Started by this process, without an autoscaler.
        config, until = {}, _FOR_GOOD
    else:
        config, until = _managed() or _asked_of_head(), time.time() + _KNOWN_FOR_S
    if config is None:
        return Autoscaler()
    internal_kv._internal_kv_put(_KEY, json.dumps({"until": until, "config": config}).encode(), namespace=_NAMESPACE)
    return of_config(config)


def _managed() -> dict[str, Any] | None:
    """What Ray itself was told of the node types, as a cluster file has it."""
    import ray._private.state

    config = ray._private.state.state.get_cluster_config()
    if config is None or not config.node_group_configs:
        return None
    return {
        "available_node_types": {
            group.name: {
                "resources": dict(group.resources),
                "max_workers": UNLIMITED if group.max_count < 0 else group.max_count,
            }
            for group in config.node_group_configs
        }
    }


def _asked_of_head() -> dict[str, Any] | None:
    """What a task on the head node finds; None if it gave no answer."""
    import ray

    task: Any = ray.remote(num_cpus=0, resources={HEAD: 0.001}, scheduling_strategy="DEFAULT")(read_config)
    # The head may lack this package.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        asked = task.remote(ray.get_runtime_context().gcs_address)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    if not ray.wait([asked], timeout=_PATIENCE_S)[0]:
        progress.say("asking the head node which nodes the cluster can start…")
    try:
        return dict(ray.get(asked, timeout=_HEADS_PATIENCE_S))
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked, force=True)
        return None
    except ray.exceptions.RayTaskError:
        return {}  # nobody may read it there; what is up counts then
    except ray.exceptions.RayError:
        return None


def _said(config: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of a cluster file, which may hold more than others should read."""
    types = config.get("available_node_types") or {}
    kept = {name: {key: of[key] for key in ("resources", "max_workers") if key in of} for name, of in types.items()}
    return {
        "available_node_types": kept,
        **{key: config[key] for key in ("head_node_type", "max_workers") if key in config},
    }


def of_config(config: Mapping[str, Any]) -> Autoscaler:
    """Node types of a cluster file as autoscalers read it (``available_node_types`` and ``max_workers``)."""
    head = config.get("head_node_type")
    most = int(config.get("max_workers", UNLIMITED))
    types = [
        NodeType(name, dict(of.get("resources") or {}), int(of.get("max_workers", most)))
        for name, of in (config.get("available_node_types") or {}).items()
        if name != head
    ]
    return Autoscaler(tuple(one for one in types if one.most), most)


def read_config(address: str) -> dict[str, Any]:
    """Node types of the autoscaler as a cluster file has them, read on the head node; {} without an autoscaler.

    Args:
        address: Address of the cluster's GCS, ``host:port``.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ and (cluster := os.environ.get("RAY_CLUSTER_NAME")):
        return _said(_of_kuberay(cluster))
    import psutil
    import yaml

    port = address.rpartition(":")[2]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        given = [word.partition("=")[2] for word in words if word.startswith("--autoscaling-config=")]
        if given and any(word.startswith("--gcs-address=") and word.endswith(f":{port}") for word in words):
            with open(os.path.expanduser(given[0])) as file:
                return _said(yaml.safe_load(file))
    return {}


def _of_kuberay(cluster: str) -> dict[str, Any]:
    """As KubeRay's autoscaler makes it of the cluster's RayCluster resource, which the head's service account reads."""
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    with open(_NAMESPACE_FILE) as file:
        client = node_provider.KubernetesHttpApiClient(namespace=file.read().strip())
    resource = client.get(f"rayclusters/{cluster}")
    if not resource["spec"].get("enableInTreeAutoscaling"):
        return {}
    return dict(autoscaling_config._derive_autoscaling_config_from_ray_cr(resource))


def coming() -> dict[str, int]:
    """Nodes that the autoscaler has asked for and that are not up yet, by type. Needs a Ray session."""
    import ray
    from ray.core.generated import autoscaler_pb2

    worker, messages = cast(Any, ray._private.worker.global_worker), cast(Any, autoscaler_pb2)
    gcs, reply = worker.gcs_client, messages.GetClusterStatusReply()
    found: dict[str, int] = {}
    reply.ParseFromString(gcs.get_cluster_status(timeout_s=_PATIENCE_S))
    for request in reply.autoscaling_state.pending_instance_requests:
        found[request.ray_node_type_name] = found.get(request.ray_node_type_name, 0) + request.count
    for instance in reply.autoscaling_state.pending_instances:
        found[instance.ray_node_type_name] = found.get(instance.ray_node_type_name, 0) + 1
    if not reply.autoscaling_state.autoscaler_state_version:
        # The first version of the autoscaler leaves a report instead.
        report = gcs.internal_kv_get(ray._private.ray_constants.DEBUG_AUTOSCALING_STATUS.encode(), None)
        said = (json.loads(report) if report else {}).get("autoscaler_report") or {}
        for name, count in said.get("pending_launches", {}).items():
            found[name] = found.get(name, 0) + count
        for _, name, _ in said.get("pending_nodes", []):
            found[name] = found.get(name, 0) + 1
    return found
