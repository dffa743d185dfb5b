"""Speed of the samplers, and the cost of three budgets relative to one.

    python jobs/bench_samplers.py                         20 M rows, every sampler
    python jobs/bench_samplers.py --rows 2e6 --samplers random stratified
    python jobs/bench_samplers.py --samplers svp_mf --proxy-epochs 2      the memory of 50 epochs, in less time
    python jobs/bench_samplers.py --in-session            in a Ray session that has sampled before, as on a cluster

Generates a log as bench_prepare does, prepares it with leave_2, and samples it by every sampler in a process of its
own: at 0.5, 0.1 and 0.01, and for the samplers that need one pass also at 0.5 alone. Rows a second are the dataset's
train rows over the run's wall time, from the first file read to the last manifest; Ray's start is reported apart, and
that of its workers, a few seconds, is left out with --in-session: the median of three runs. Prints one JSON object, and
a table on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_prepare import MemoryOfTree, generate

QUICK = ("random", "stratified", "temporal", "random_users", "head_users")
OTHERS = (
    "centrality",
    "random_walk",
    "forest_fire",
    "density",
    "sensitivity",
    "sensitivity_users",
    "svp_bias",
    "svp_mf",
)
BUDGETS = "0.5,0.1,0.01"


# Samples a small dataset first, so that the workers have started before the measured runs.
_IN_SESSION = """
import sys, distill_at_scale as das
warm, output, *settings = sys.argv[1:]
asked = dict(zip(("data", "sampler", "budget", "proxy_epochs"), settings))
das.connect()
das.sample(**{**asked, "data": warm}, output=output + "/warm")
for k in range(3):
    print(das.sample(**asked, output=f"{output}/{k}").model_dump_json())
"""


def sample(
    data: Path, output: Path, sampler: str, budgets: str, proxy_epochs: int, warm: Path | None = None
) -> dict[str, Any]:
    """Runs `das sample` in a process of its own, or its function in one that has sampled ``warm`` before."""
    command = [sys.executable, "-m", "distill_at_scale.cli", "sample", "--data", str(data), "--sampler", sampler]
    command += ["--budget", budgets, "--output", str(output), "--json"]
    epochs = [str(proxy_epochs)] if sampler.startswith("svp_") else []
    command += ["--proxy-epochs", *epochs] if epochs else []
    if warm:
        command = [sys.executable, "-c", _IN_SESSION, str(warm), str(output), str(data), sampler, budgets]
        command += epochs
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = MemoryOfTree(process.pid)
    memory.start()
    answer, _ = process.communicate()
    wall = time.monotonic() - start
    memory.stop()
    if process.returncode:
        sys.exit(f"{sampler} failed: {answer}")
    results = [json.loads(line) for line in answer.splitlines()[-3 if warm else -1 :]]
    runs = [json.loads((Path(r["samples"][-1]["uri"]) / "run.json").read_text()) for r in results]
    # Besides its stages, a run only reads and writes manifests; Ray's start does not count.
    walls = [sum(stage["wall_s"] for stage in run["stages"]) for run in runs]
    stages, result, run = sorted(zip(walls, results, runs), key=lambda found: found[0])[len(runs) // 2]
    rows = result["data"]["train_rows"]
    found = {
        "rows": rows,
        "stages_wall_s": round(stages, 2),
        "rows_per_s": round(rows / stages),
        "whole_process_wall_s": round(wall, 2),
        "tasks_cpu_s": result["cpu_s"],
        "driver_peak_mib": run["driver_peak_mib"],
        "worker_peak_mib": run["worker_peak_mib"],
        "all_processes_peak_mib": round(memory.peak / 2**20),
        "kept": {f"{s['budget']:g}": s["share"] for s in result["samples"]},
        "stages": {stage["stage"]: [stage["wall_s"], stage["cpu_s"]] for stage in run["stages"]},
    }
    shutil.rmtree(output)
    return found


def _prepare(folder: Path, rows: int, seed: int, *more: str) -> Path:
    """A dataset of a generated log."""
    log, data = folder / f"log-{rows}", folder / f"data-{rows}"
    print(f"generating and preparing {rows:,} rows", file=sys.stderr)
    generate(log, rows, seed)
    command = [sys.executable, "-m", "distill_at_scale.cli", "prepare", "--input", str(log), "--output", str(data)]
    subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(log)
    return data


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=20e6, help="rows of the log")
    parser.add_argument("--samplers", nargs="+", default=[*QUICK, *OTHERS], metavar="NAME")
    parser.add_argument("--proxy-epochs", type=int, default=50, help="of svp_*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="a dataset made before, in the place of a generated one")
    parser.add_argument("--in-session", action="store_true", help="leave the start of Ray's workers out")
    parser.add_argument("--folder", help="where the log and the datasets go; default: a temporary folder")
    parser.add_argument("--output", help="file for the JSON object")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="das-bench-", dir=arguments.folder))
    found: dict[str, Any] = {"cpus": os.cpu_count(), "seed": arguments.seed, "budgets": BUDGETS}
    found |= {"proxy_epochs": arguments.proxy_epochs, "in_session": arguments.in_session, "samplers": {}}
    try:
        data = arguments.data or _prepare(folder, int(arguments.rows), arguments.seed)
        # Enough shards that every worker has something to do.
        shards = ("--shards", str(8 * (os.cpu_count() or 1)))
        warm = _prepare(folder, 400_000, arguments.seed, *shards) if arguments.in_session else None
        for name in arguments.samplers:
            three = sample(data, folder / "samples", name, BUDGETS, arguments.proxy_epochs, warm)
            if name in QUICK:
                one = sample(data, folder / "samples", name, BUDGETS.split(",")[0], 1, warm)
                three["wall_of_three_to_one"] = round(three["stages_wall_s"] / one["stages_wall_s"], 3)
                three["cpu_of_three_to_one"] = round(three["tasks_cpu_s"] / one["tasks_cpu_s"], 3)
            found["samplers"][name] = three
            print(
                f"{name:18} {three['rows_per_s']:>12,} rows/s {three['stages_wall_s']:>8.1f} s "
                f"{three['tasks_cpu_s']:>8.1f} CPU-s {three['worker_peak_mib']:>7.0f} MiB a worker "
                f"{three.get('wall_of_three_to_one', ''):>6}",
                file=sys.stderr,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
