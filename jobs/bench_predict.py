"""Cost of lists for all users relative to their evaluation: CPU-seconds of `predict` and `evaluate` in one run.

    python jobs/bench_predict.py --output predict.json      ../shared/data/ml-1m.parquet: 6,040 users, 3,706 items

The log is prepared by its own split, EASE and ∞-AE are fitted, and then both verbs run in turn, several times, in one
Ray session. CPU-seconds are those that the tasks used, and those of this process and of the workers in between.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ml-1m.parquet"
MODELS = {"ease": {"lam": 800}, "infinite_ae": {"lam": 5}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.data.is_file():
        print(f"{options.data} not found; give a Parquet file with a split column by --data.", file=sys.stderr)
        return 1
    sys.path.insert(0, str(REPOSITORY))
    import distill_at_scale as das

    das.connect()
    content: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "date": time.strftime("%Y-%m-%d"),
        "rounds": options.rounds,
        "models": {},
    }
    with tempfile.TemporaryDirectory() as work:
        data = das.prepare(input=[str(options.data)], split="column", output=f"{work}/data")
        content |= {"users": data.n_users, "items": data.n_items, "rows": data.n_rows}
        for name, settings in MODELS.items():
            das.fit(data, name, set=settings, output=f"{work}/{name}")
            runs: dict[str, Callable[[], Any]] = {
                "evaluate": lambda name=name: das.evaluate(data, f"{work}/{name}"),
                "predict": lambda name=name: das.predict(
                    data, f"{work}/{name}", k=20, history="train+validation", output=f"{work}/lists", overwrite=True
                ),
            }
            for run in runs.values():  # warms the workers
                run()
            costs: dict[str, list[dict[str, float]]] = {verb: [] for verb in runs}
            for _ in range(options.rounds):
                for verb, run in runs.items():
                    costs[verb].append(_cost(run))
            middle = {
                verb: {key: round(statistics.median(cost[key] for cost in found), 3) for key in found[0]}
                for verb, found in costs.items()
            }
            ratio = {key: round(middle["predict"][key] / middle["evaluate"][key], 3) for key in middle["predict"]}
            content["models"][name] = {**middle, "predict / evaluate": ratio}
            print(name, json.dumps(content["models"][name]))
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _cost(run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of one run: CPU of its tasks, CPU of this process and all that it started, wall time."""
    before, started = _cpu(), time.perf_counter()
    result = run()
    return {
        "tasks_cpu_s": result.cpu_s,
        "all_cpu_s": _cpu() - before,
        "wall_s": time.perf_counter() - started,
    }


def _cpu() -> float:
    """CPU-seconds of this process and of its descendants (Ray's own ones idle in between)."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    sys.exit(main())
