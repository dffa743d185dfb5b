"""Rehearses every kind of step on an expanded log of a billion rows and a million items: hours, CPU-hours, memory.

    python jobs/bench_billion_rows.py --data ../shared/data --work WORK --output jobs/results/billion-rows.json
    python jobs/bench_billion_rows.py --by 2x16 …          a quick look

Each step is a `das` command of its own, which starts and ends a Ray of its own: expand, prepare, sample with three
samplers, fit ELSA for one epoch, evaluate, distill 500 users, fit on these, evaluate. Memory is sampled every second:
of the largest process and of all together, pages that several share counted once. Steps that are in FILE are not done
again, so that the job goes on after a kill; ``--only STEP …`` does some of them. Up to the first sample, the default
expansion took 10 GB of disk in WORK.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_prepare import MemoryOfTree

SAMPLERS = {"random_users": [], "density": [], "svp_bias_users": ["--proxy-epochs", "1"]}
# Rows of a million items are learned as factors.
FACTORED = ["--set", "rank=64", "--set", "validation_users=2000"]
USERS, BUDGET = "100000", "0.1"


def run(*words: str) -> dict[str, Any]:
    """Runs a `das` command; its costs and its result."""
    start = time.monotonic()
    command = [sys.executable, "-m", "distill_at_scale.cli", *words, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = MemoryOfTree(process.pid)
    watch.start()
    answer, _ = process.communicate()
    watch.stop()
    if process.returncode:
        sys.exit(f"das {' '.join(words)} failed with exit code {process.returncode}")
    return {
        "command": "das " + " ".join(words),
        "wall_s": round(time.monotonic() - start, 1),
        "cpu_s": round(watch.cpu_s, 1),
        "largest_process_mib": round(watch.largest / 2**20),
        "all_processes_mib": round(watch.peak / 2**20),
        "result": json.loads(answer.splitlines()[-1]),
    }


def steps(logs: Path, work: Path, by: str) -> dict[str, list[str]]:
    """The commands, in order."""

    def at(name: str) -> str:
        return str(work / name)

    data, split = ["--data", at("data")], ["--split", "20_percent_hist"]
    samples = {
        f"sample {name}": ["sample", *data, "--sampler", name, "--budget", BUDGET, "--output", at(name), *more]
        for name, more in SAMPLERS.items()
    }
    small = ["prepare", "--input", str(logs / "ml-1m.parquet"), "--split", "column", "--output", at("small")]
    return {
        "prepare ml-1m": small,
        "expand": ["expand", "--data", at("small"), "--by", by, "--output", at("expanded")],
        "prepare": ["prepare", "--input", at("expanded/log"), *split, "--output", at("data")],
        **samples,
        "fit elsa": ["fit", *data, "--model", "elsa", "--set", "epochs=1", "--set", "dim=64", "--output", at("elsa")],
        "evaluate elsa": ["evaluate", *data, "--model", at("elsa"), "--users", USERS],
        "distill": ["distill", *data, "--users", "500", *FACTORED, "--output", at("distilled")],
        "fit distilled": ["fit", "--data", at("distilled"), "--model", "infinite_ae", "--output", at("infinite_ae")],
        "evaluate distilled": ["evaluate", *data, "--model", at("infinite_ae"), "--users", USERS],
    }


KEPT = ("rows", "users", "n_rows", "n_users", "n_items", "n_shards", "metrics", "winner", "contenders")
"""What of a step's result is noted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m.parquet")
    parser.add_argument("--work", type=Path, required=True, help="folder for the log and what is made of it")
    parser.add_argument("--by", default="13x270", help="blocks of users x items; default: 0.99 G rows, 1 M items")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps to do; default: all")
    parser.add_argument("--output", type=Path, required=True, help="file for the result, as JSON")
    options = parser.parse_args()
    command = f"python jobs/bench_billion_rows.py --data LOGS --work WORK --by {options.by} --output FILE"
    found: dict[str, Any] = {"command": command, "steps": {}}
    if options.output.exists():
        found = json.loads(options.output.read_text())
    for name, words in steps(options.data, options.work, options.by).items():
        if name not in found["steps"] and name in (options.only or [name]):
            one = run(*words)
            one["result"] = {key: value for key, value in one["result"].items() if key in KEPT}
            one["command"] = one["command"].replace(str(options.work), "WORK").replace(str(options.data), "LOGS")
            found["steps"][name] = one
            options.output.write_text(json.dumps(found, indent=1) + "\n")
            print(name, {key: value for key, value in one.items() if key != "command"}, flush=True)
            if name == "prepare":
                # The log is as large as what was made of it.
                shutil.rmtree(options.work / "expanded", ignore_errors=True)


if __name__ == "__main__":
    main()
