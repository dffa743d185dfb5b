"""Compares plans with runs: CPU-seconds, seconds, memory and disk of jobs that the rates were not measured on.

    python jobs/bench_plan.py --log ML-1M.parquet --work FOLDER [--output FILE] [--job NAME]

Each job is a `das` command of its own, as a user's: it starts a Ray and loads its libraries. The first prepares the
log, which has a split column; the others use its dataset. Ratios are plan over run; 1 means an exact plan. Memory is
that of the largest task, disk what lies at the output afterwards. Nothing else may run beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

JOBS: dict[str, list[str]] = {
    "prepare": ["prepare", "--split", "column", "--shards", "4"],
    "sample": ["sample", "--sampler", "density", "--budget", "0.3"],
    "popularity": ["fit", "--model", "popularity"],
    "als": ["fit", "--model", "als", "--set", "lam=0.005"],
    "elsa": ["fit", "--model", "elsa", "--set", "epochs=5"],
    "mf": ["fit", "--model", "mf", "--set", "epochs=2"],
    "ease": ["fit", "--model", "ease", "--set", "lam=400"],
    "svd_ae": ["fit", "--model", "svd_ae", "--set", "rank=64"],
    "evaluate": ["evaluate"],
    "distill": ["distill", "--users", "200", "--set", "steps=20"],
}


def das(*words: str) -> dict[str, Any]:
    """Runs a command; its result."""
    command = [sys.executable, "-m", "distill_at_scale.cli", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bytes_below(place: Path) -> int:
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def compared(name: str, log: Path, work: Path) -> dict[str, Any]:
    """A job's plan beside its run."""
    out = work / name
    source = ["--input", str(log)] if name == "prepare" else ["--data", str(work / "prepare")]
    target = out / "result.json" if name == "evaluate" else out
    model = ["--model", str(work / "mf")] if name == "evaluate" else []
    words = [*JOBS[name], *source, *model, "--output", str(target)]
    plan = das(*words, "--plan")
    start = time.monotonic()
    made = das(*words, *([] if name == "evaluate" else ["--overwrite"]))
    wall_s = time.monotonic() - start
    place = Path(made["samples"][0]["uri"]) if name == "sample" else out
    record = json.loads((target if name == "evaluate" else place / "run.json").read_text())
    stages = (record["run"] if name == "evaluate" else record)["stages"]
    run = {
        "cpu_s": sum(stage["cpu_s"] for stage in stages),
        "wall_s": wall_s,
        "mib": max(stage["peak_mib"] for stage in stages),
        "disk_mib": bytes_below(place) / 2**20,
    }
    planned = {
        "cpu_s": plan["cpu_s"],
        "wall_s": plan["wall_s"],
        "mib": max(step["task_bytes"] for step in plan["steps"]) / 2**20,
        "disk_mib": plan["result_bytes"] / 2**20,
    }
    ratios = {key: round(planned[key] / run[key], 2) for key in run if key != "disk_mib" or name != "evaluate"}
    shown = [{key: round(value, 2) for key, value in one.items()} for one in (run, planned)]
    return {"command": "das " + " ".join(JOBS[name]), "run": shown[0], "planned": shown[1], "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="ml-1m.parquet")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--job", action="append", choices=list(JOBS), help="repeatable; default: all")
    options = parser.parse_args()
    jobs: dict[str, Any] = {}
    found = {"command": "python jobs/bench_plan.py --log ML-1M --work FOLDER", "jobs": jobs}
    for name in options.job or list(JOBS):
        jobs[name] = compared(name, options.log, options.work)
        print(f"{name}: {jobs[name]['ratio']}", file=sys.stderr)
        if options.output:
            options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
