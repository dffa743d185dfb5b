"""Tries Ray, here or at an address, and brings back what there is or one sentence why not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from distill_at_scale.data import storage

_RAY_SECONDS = 90

# Ray is tried in a process of its own: it may hang, it prints, and one process can hold one connection only.
_RAY_PROBE = """
import json, logging, sys
import ray
address = json.loads(sys.argv[1])
if address is None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000,
             log_to_driver=False, logging_level="critical")
else:
    ray.init(address=address, log_to_driver=False, logging_level="critical")

@ray.remote(num_cpus=0)
def versions():
    import importlib.metadata, platform, ray
    try:
        torch = importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    return {"ray": ray.__version__, "python": platform.python_version(), "torch": torch}

nodes = [node for node in ray.nodes() if node["Alive"]]
total = ray.cluster_resources()
answer = {"nodes": len(nodes), "cpus": total.get("CPU", 0), "gpus": total.get("GPU", 0)}
answer |= ray.get(versions.remote(), timeout=60)
answer["could"] = ""
if address is not None:
    from distill_at_scale.pipelines.runtime import resources
    could = resources.could_be()
    answer["could"] = str(could) if could.growth else ""
print("DAS-DOCTOR " + json.dumps(answer), flush=True)
ray.shutdown()
"""


@dataclass(frozen=True, slots=True)
class FoundRay:
    """A Ray session that could be started or joined."""

    nodes: int
    cpus: float
    gpus: float
    ray: str
    python: str
    torch: str
    """Versions on the cluster; "none" without torch."""
    could: str
    """Nodes that the cluster can start, in words; "" if it starts none."""


def probe_ray(address: str | None) -> tuple[FoundRay | None, str]:
    """What a trial run in another process found: (answer, "") or (None, why not)."""
    # An address in the environment would turn "does it start here" into another question.
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    env["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Else Ray writes a token file into the home folder, which changes how later clusters start.
        env.setdefault("RAY_AUTH_MODE", "disabled")
    command = [sys.executable, "-c", _RAY_PROBE, json.dumps(address)]
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RAY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_RAY_SECONDS} seconds"
    for line in done.stdout.splitlines():
        if line.startswith("DAS-DOCTOR "):
            return FoundRay(**json.loads(line.removeprefix("DAS-DOCTOR "))), ""
    said = [line.strip() for line in done.stderr.splitlines() if re.match(r"^[\w.]*(Error|Exception)\b", line.strip())]
    return None, storage.redact(said[-1]) if said else f"Ray ended with code {done.returncode}"
