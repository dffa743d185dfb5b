"""Compares plans with runs: CPU-seconds, seconds, memory and disk of jobs that the rates were not measured on.

    python jobs/bench_plan.py --log ML-1M.parquet --work FOLDER [--split column] [--output FILE] [--job NAME …]

Each job is a `das` command of its own, as a user's: it starts a Ray and loads its libraries. The first prepares the
log; the others use its dataset, and some the results of earlier ones. Ratios are plan over run; 1 means an exact plan.
Memory is that of the largest task, as recorded by the run, or, of verbs that record none, of the largest process; disk
is what lies at the output afterwards. Nothing else may run beside it. Jobs of an earlier run stay in the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_billion_rows import run

JOBS: dict[str, list[str]] = {
    "prepare": ["prepare", "--shards", "4"],
    "sample": ["sample", "--sampler", "density", "--budget", "0.3"],
    "popularity": ["fit", "--model", "popularity"],
    "als": ["fit", "--model", "als", "--set", "lam=0.005"],
    "elsa": ["fit", "--model", "elsa", "--set", "epochs=5"],
    "mf": ["fit", "--model", "mf", "--set", "epochs=2"],
    "ease": ["fit", "--model", "ease", "--set", "lam=400"],
    "svd_ae": ["fit", "--model", "svd_ae", "--set", "rank=64"],
    "evaluate": ["evaluate", "--model", "WORK/mf"],
    "distill": ["distill", "--users", "200", "--set", "steps=20"],
    "expand": ["expand", "--by", "4x3"],
    "sasrec": ["fit", "--model", "sasrec", "--set", "epochs=2"],
    "predict": ["predict", "--model", "WORK/als"],
    "sketch": ["distill", "--method", "sketch", "--users", "400"],
    "export": ["export", "--format", "csv"],
    "forget": ["forget", "--users", "WORK/ids.txt"],
    "attribute": ["attribute", "--model", "mf", "--set", "epochs=2"],
    "compare": ["compare", "--samples", "WORK/sample/density-0.3", "--models", "als,svd_ae"],
    "forecast": ["forecast", "--models", "als,svd_ae", "--up-to", "0.3"],
    "tune": ["tune", "--models", "als,svd_ae", "--search", "8"],
    "sweep": ["sweep", "--methods", "random_users,density", "--budgets", "0.1,0.3", "--models", "als,svd_ae"],
    "recommend": ["recommend"],
}
ALONE, KEPT = ("recommend",), ("evaluate", "compare")
"""Jobs without an output, and those without --overwrite."""
FILES = {"evaluate": "result.json", "attribute": "values.parquet"}
"""Those whose output is a file."""


def planned(words: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "distill_at_scale.cli", *words, "--plan", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bytes_below(place: Path) -> int:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def recorded_stages(place: Path) -> list[dict[str, Any]]:
    """The stages that a run recorded at its output; none where it recorded none."""
    if place.name == "result.json":
        found: list[dict[str, Any]] = json.loads(place.read_text())["run"]["stages"]
        return found
    file = place / "run.json"
    return list(json.loads(file.read_text())["stages"]) if file.is_file() else []


def compared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A job's plan beside its run."""
    work: Path = options.work
    out = work / name / FILES[name] if name in FILES else work / name
    words = [word.replace("WORK", str(work)) for word in JOBS[name]]
    words += (
        ["--input", str(options.log), "--split", options.split] if name == "prepare" else ["--data", f"{work}/prepare"]
    )
    if name not in ALONE:
        words += ["--output", str(out), *([] if name in KEPT else ["--overwrite"])]
    if name == "forget":
        from distill_at_scale.data.dataset import Dataset

        ids = Dataset.open(f"{work}/prepare").users(0)["user_id"].head(20)
        (work / "ids.txt").write_text("\n".join(map(str, ids)) + "\n")
    plan, made = planned(words), run(*words)
    place = Path(made["result"]["samples"][0]["uri"]) if name == "sample" else out
    stages = recorded_stages(place)
    found = {
        "cpu_s": sum(stage["cpu_s"] for stage in stages) if stages else None,
        "wall_s": made["wall_s"],
        "mib": max((stage["peak_mib"] for stage in stages), default=made["largest_process_mib"]),
        "disk_mib": None if name in ALONE else bytes_below(place) / 2**20,
    }
    told = {
        "cpu_s": plan["cpu_s"],
        "wall_s": plan["wall_s"],
        "mib": max(step["task_bytes"] for step in plan["steps"]) / 2**20,
        "disk_mib": plan["result_bytes"] / 2**20,
    }
    ratios = {key: round(told[key] / value, 2) for key, value in found.items() if value and told[key] is not None}
    shown = [{key: None if value is None else round(value, 2) for key, value in one.items()} for one in (found, told)]
    return {"command": "das " + " ".join(JOBS[name]), "run": shown[0], "planned": shown[1], "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="such as ml-1m.parquet")
    parser.add_argument("--split", default="column", help="how the log is split")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--job", nargs="+", choices=list(JOBS), default=list(JOBS), help="default: all")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    done = options.output is not None and options.output.is_file()
    jobs: dict[str, Any] = json.loads(options.output.read_text())["jobs"] if done else {}
    command = f"python jobs/bench_plan.py --log {options.log.name} --split {options.split} --work FOLDER"
    found = {"command": command, "jobs": jobs}
    for name in options.job:
        try:
            jobs[name] = compared(name, options)
        except SystemExit as left:
            print(f"{name}: {left}", file=sys.stderr)
            continue
        print(f"{name}: {jobs[name]['ratio']}", file=sys.stderr, flush=True)
        if options.output:
            options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
