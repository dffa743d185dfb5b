"""A cluster of two nodes, one of which has never seen the plugins: a sentence, or they are shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugins_kit import DAMPENED, MEANS, OLDEST, PACKAGE
from prepare_kit import inline_prepare, random_rows, write_logs

REPOSITORY = Path(__file__).resolve().parents[2]

# In a process of its own: this one may have a session already.
SCRIPT = """
import json, os, sys
import ray
from ray.cluster_utils import Cluster
import distill_at_scale as das
from distill_at_scale.errors import ClusterError

data, output, means, oldest, dampened = sys.argv[1:]
common = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**common, "include_dashboard": False})
# Of the plugins, workers of this node find nothing by themselves.
os.environ["PYTHONPATH"] = os.environ["WITHOUT"]
bare = cluster.add_node(**common)
asked = dict(data=data, output=output, methods=[oldest, means], models=[dampened, "ease"], budgets="0.5")
said = {"bare": bare.node_id}
try:
    das.connect(cluster.address)
    try:
        das.sweep(**asked)
    except ClusterError as error:
        said["refused"] = str(error)
    ray.shutdown()
    # What is known before is shipped.
    found = das.sweep(**asked, address=cluster.address)
    said |= {"ok": found.ok, "failures": found.failures, "done": found.done}
    with_address = das.fit(data=data, model=dampened, output=output + "-model", address=cluster.address)
    said["hr"] = das.evaluate(data=data, model=with_address.uri, address=cluster.address).metrics["hr@10"]
finally:
    ray.shutdown()
    cluster.shutdown()
print(json.dumps(said))
"""


@pytest.mark.slow
def test_a_sweep_of_things_from_outside(tmp_path: Path) -> None:
    logs = write_logs(tmp_path, random_rows(5, 1500, 80, 30), 2)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), shards=2, min_user=4)
    without = os.environ["PYTHONPATH"].replace(f"{os.pathsep}{PACKAGE}", "")
    assert str(PACKAGE) not in without
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, data.uri, str(tmp_path / "sweep"), MEANS, OLDEST, DAMPENED],
        env={**os.environ, "PYTHONPATH": f"{without}{os.pathsep}{PACKAGE}", "WITHOUT": without},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert f"{said['bare'][:8]}): 'outside." in said["refused"]
    assert "module 'outside' is missing" in said["refused"]
    assert (said["ok"], said["done"]) == (True, 6), said
    assert 0 < said["hr"] <= 1
