"""Quality of ∞-AE and EASE fitted on distilled users of ml-1m, relative to fits on all rows.

    python jobs/bench_distill.py --data FOLDER --output FOLDER [--run NAME] [--seed N]
    python jobs/bench_distill.py --data FOLDER --output FOLDER --larger 50000     cost of a step with more users

FOLDER holds ml-1m.parquet with its split column. Runs in `<output>/results.json` are skipped, and a
killed run resumes from its checkpoint. One run of `free-500` takes about two CPU-minutes. `--larger` takes 25 and
5 steps with 500 rows and two workers on the log's users and on as many as asked for, drawn from them with replacement
and each without a fifth of the rows; a step's cost is the difference between both runs, divided by 20.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

RUNS: dict[str, dict[str, Any]] = {
    "free-500": {"users": 500},
    "unit-500": {"users": 500, "set": {"rows": "unit", "init": "kmeans"}},
    "binary-500": {"users": 500, "set": {"rows": "binary"}},
    "free-100": {"users": 100},
    "free-40": {"users": 40},
    "free-10": {"users": 10},
    "sketch-500": {"users": 500, "method": "sketch"},
    "rank-128-500": {"users": 500, "set": {"rank": 128}},
    "rank-64-500": {"users": 500, "set": {"rank": 64}},
    "rank-128-fixed-500": {"users": 500, "set": {"rank": 128, "vectors": "fixed"}},
}
METRICS = ("ndcg@10", "hr@10", "hr@100")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the log")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--run", action="append", choices=list(RUNS), help="a run; repeatable; default: all")
    parser.add_argument("--seed", action="append", type=int, help="a seed; repeatable; default: 0, 1 and 2")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--larger", type=int, metavar="USERS", help="only this: a step's cost with this number of users"
    )
    options = parser.parse_args()
    log = options.data / "ml-1m.parquet"
    if not log.is_file():
        print(f"{log} not found; give its folder by --data.", file=sys.stderr)
        return 1
    sys.path.insert(0, str(REPOSITORY))
    from distill_at_scale.data.manifest import NAME
    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.runtime import session

    results_file = options.output / "results.json"
    results = json.loads(results_file.read_text()) if results_file.is_file() else {}
    data = options.output / "data"
    with session.ensure():
        if not (data / NAME).is_file():
            prepare(input=[str(log)], output=str(data), split="column", shards=1)
        if options.larger:
            results["larger"] = larger(log, options.output, str(data), options.larger)
            results_file.write_text(json.dumps(results, indent=2) + "\n")
            print(json.dumps(results["larger"], indent=2))
            return 0
        for name in options.run or list(RUNS):
            for seed in options.seed or [0, 1, 2]:
                key = f"{name}-seed{seed}"
                if key not in results:
                    results[key] = run(RUNS[name], seed, str(data), options.output / key, options.workers)
                    results_file.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({"runs": results, "means": means(results)}, indent=2))
    return 0


def run(wanted: dict[str, Any], seed: int, data: str, place: Path, workers: int) -> dict[str, Any]:
    """Distills (or goes on), fits both models on the result, and judges them on test."""
    from distill_at_scale.pipelines.distill import distill
    from distill_at_scale.pipelines.evaluate import evaluate
    from distill_at_scale.pipelines.fit import fit

    made = distill(data=data, output=str(place / "made"), seed=seed, workers=workers, overwrite=True, **wanted)
    metrics = {}
    for model in ("infinite_ae", "ease"):
        fitted = fit(data=made.uri, model=model, output=str(place / model), overwrite=True)
        found = evaluate(data=data, model=fitted.uri).metrics
        metrics[model] = {metric: found[metric] for metric in METRICS}
    return {
        **wanted,
        "seed": seed,
        "metrics": metrics,
        "settings": made.settings,
        "curve": made.curve,
        "bytes": made.bytes,
        "cpu_s": made.cpu_s,
        "peak_mib": made.peak_mib,
    }


def larger(log: Path, output: Path, data: str, n_users: int) -> dict[str, Any]:
    """A step's CPU-seconds of both workers, and the largest one's memory, on the log and on many users."""
    from bench_kernel import bootstrapped

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.pipelines.distill import distill

    found = {}
    for uri in (data, bootstrapped(log, output, n_users)):
        spent = {}
        for steps in (25, 5):
            made = distill(
                data=uri,
                users=500,
                workers=2,
                set={"steps": steps, "validate_every": 1000},
                output=str(output / "larger"),
                overwrite=True,
            )
            spent[steps] = made
        found[f"{Dataset.open(uri).n_users} users"] = {
            "step_cpu_s": round((spent[25].cpu_s - spent[5].cpu_s) / 20, 3),
            "run_cpu_s": spent[25].cpu_s,
            "worker_peak_mib": spent[25].peak_mib,
        }
    return found


def means(results: dict[str, Any]) -> dict[str, Any]:
    """Mean and spread over the seeds of each run, in percent."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for key, result in results.items():
        if key == "larger":
            continue
        grouped.setdefault(key.rsplit("-seed", 1)[0], []).append(result)
    found: dict[str, Any] = {}
    for name, several in grouped.items():
        for model in ("infinite_ae", "ease"):
            for metric in METRICS:
                values = [100 * one["metrics"][model][metric] for one in several]
                found.setdefault(name, {})[f"{model} {metric}"] = {
                    "mean": round(sum(values) / len(values), 2),
                    "lowest": round(min(values), 2),
                    "highest": round(max(values), 2),
                    "seeds": len(values),
                }
    return found


if __name__ == "__main__":
    sys.exit(main())
