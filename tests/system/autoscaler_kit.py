"""A Ray head without CPUs and an autoscaler of its own, which starts nodes on this machine from zero and ends them.

Ray's fake multi-node provider makes every node a raylet process here. Its own type wants a file that Ray's package
lacks; as an external provider it does without, by both versions of the autoscaler.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from servers import BIN, RayHead, free_ports

_HEAD_ID = "f" * 51 + "00000"
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_STORE = 80_000_000
_EMPTY = ("file_mounts", "docker", "auth")
_NONE = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
_NO_STARTS = ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")

NODE_TYPES: dict[str, tuple[dict[str, float], int]] = {
    "cpu": ({"CPU": 1}, 3),
    "gpu": ({"CPU": 1, "GPU": 1}, 1),
    # One that no cloud has in stock: its raylet cannot start with so small an object store.
    "rare": ({"CPU": 1, "GPU": 4, "object_store_memory": 1}, 1),
}
"""Resources of a node, and nodes at most, by type."""


class AutoscaledHead(RayHead):
    """A head of 0 CPUs with node types that start from zero; nodes go after some seconds without work."""

    def __init__(self, folder: Path, types: Mapping[str, tuple[dict[str, float], int]] | None = None) -> None:
        super().__init__(folder, cpus=0)
        self._types = NODE_TYPES if types is None else types

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(os.urandom(32).hex())
        gcs, client, agent, agent_grpc, runtime_env, metrics, node, objects = free_ports(8)
        self.address, config = f"127.0.0.1:{gcs}", self.folder / "cluster.json"
        config.write_text(json.dumps(self._config()))
        command = [
            str(BIN / "ray"),
            *("start", "--head", "--block", "--num-cpus=0", "--include-dashboard=false", "--disable-usage-stats"),
            f"--port={gcs}",
            f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime_env}",
            f"--metrics-export-port={metrics}",
            f"--node-manager-port={node}",
            f"--object-manager-port={objects}",
            f"--object-store-memory={_STORE}",
            f"--temp-dir={self.folder / 'r'}",
            f"--autoscaling-config={config}",
        ]
        env = {
            **self.environment(),
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            # The autoscaler of `ray up` and of KubeRay.
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            # Ray gives a node 30 s to start, which a busy machine exceeds.
            "RAY_raylet_start_wait_time_s": "120",
        }
        self._launch(command, env, self._ready)

    def _config(self) -> dict[str, object]:
        head: dict[str, object] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        return {
            "cluster_name": "das-test",
            "max_workers": sum(most for _, most in self._types.values()),
            "upscaling_speed": 10.0,
            "idle_timeout_minutes": 0.2,
            "provider": {
                "type": "external",
                "module": _PROVIDER,
                "gcs_address": self.address,
                "head_node_id": _HEAD_ID,
                "launch_multiple": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": head,
                **{
                    name: {
                        "resources": {"object_store_memory": _STORE, **resources},
                        "node_config": {},
                        "min_workers": 0,
                        "max_workers": most,
                    }
                    for name, (resources, most) in self._types.items()
                },
            },
            **{name: {} for name in _EMPTY},
            **{name: [] for name in (*_NONE, *_NO_STARTS)},
        }

    def _ready(self) -> bool:
        return "Ray runtime started" in self.log.read_text(errors="replace")

    def nodes(self) -> int:
        """Number of nodes that are up beside the head."""
        return sum("raylet" in Path(words[0]).name for words in map(_words, self._processes()) if words) - 1

    def das(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """``das …`` on this cluster, as a process of its own."""
        return self.python("-m", "distill_at_scale", *arguments, "--address", self.address, timeout=timeout)

    def python(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A Python process with the cluster's token."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=timeout, check=False
        )

    def _processes(self) -> list[psutil.Process]:
        """All processes of the cluster: their session lies in its folder, which they are told."""
        mine = f"{self.folder / 'r'}{os.sep}"
        return [one for one in psutil.process_iter() if any(mine in word for word in _words(one))]

    def stop(self, patience: float = 0) -> None:
        super().stop(patience)
        # Nodes are children of the autoscaler, and outlive it.
        deadline = time.monotonic() + 5
        while (left := self._processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []
