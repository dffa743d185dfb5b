"""Compares plans with runs: CPU-seconds and memory of jobs that the rates were not measured on; prints one JSON object.

    python jobs/bench_plan.py --data DATASET --work FOLDER [--output FILE] [--job NAME]

DATASET is a prepared dataset, such as that of ml-1m. Ratios are plan over run; 1 means an exact plan.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "sample": ("sample", {"sampler": "density", "budget": ["0.3,0.1"]}),
    "popularity": ("fit", {"model": "popularity"}),
    "als": ("fit", {"model": "als", "set": {"lam": 0.005}}),
    "elsa": ("fit", {"model": "elsa", "set": {"epochs": 5}}),
    "mf": ("fit", {"model": "mf", "set": {"epochs": 2}}),
    "ease": ("fit", {"model": "ease", "set": {"lam": 400.0}}),
    "svd_ae": ("fit", {"model": "svd_ae", "set": {"rank": 64}}),
    "evaluate": ("evaluate", {"model": "mf"}),
    "distill": ("distill", {"method": "distill_cf", "users": 200, "set": {"steps": 20}}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--job", action="append", choices=list(JOBS), help="repeatable; default: all")
    options = parser.parse_args()
    from distill_at_scale.cli.verbs import VERBS, run
    from distill_at_scale.pipelines.planning.verbs import make_plan
    from distill_at_scale.pipelines.runtime import session

    found: dict[str, Any] = {}
    with session.ensure():
        for name in options.job or list(JOBS):
            verb, given = JOBS[name]
            out = options.work / name
            settings = {**given, "data": options.data, "output": str(out)}
            settings |= (
                {"output": str(out / "result.json"), "model": str(options.work / "mf")} if verb == "evaluate" else {}
            )
            settings |= {"overwrite": True} if "overwrite" in VERBS[verb].model.model_fields else {}
            config = VERBS[verb].model.model_validate(settings)
            plan = make_plan(verb, config)
            result = run(verb, config)
            place = Path(result.samples[0].uri) if verb == "sample" else out
            file = place / ("result.json" if verb == "evaluate" else "run.json")
            record = json.loads(file.read_text())
            stages = (record["run"] if verb == "evaluate" else record)["stages"]
            cpu_s, peak = sum(one["cpu_s"] for one in stages), max(one["peak_mib"] for one in stages)
            planned_mib = max(one.task_bytes for one in plan.steps) / 2**20
            found[name] = {
                "cpu_s": round(cpu_s, 2),
                "planned_cpu_s": plan.cpu_s,
                "cpu_ratio": None if plan.cpu_s is None else round(plan.cpu_s / cpu_s, 2),
                "peak_mib": peak,
                "planned_mib": round(planned_mib),
                "memory_ratio": round(planned_mib / peak, 2),
            }
            print(f"{name}: {found[name]}", file=sys.stderr)
            if options.output:
                options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
