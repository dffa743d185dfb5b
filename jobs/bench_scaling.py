"""Measures how prepare, sample and evaluate scale over nodes on simulated work, and what their driver costs.

    python jobs/bench_scaling.py --work FOLDER --output FILE [--part nodes | rows | tasks] [--minutes M]

nodes: 8, 4, 2 and 1 Ray nodes of one CPU on this machine run the real verbs, with all their stages, on a log whose
files and shards have a few hundred rows each. Every task does its real work on these, and sleeps until it has lasted as
long as millions of rows would take by the package's measured rates. Sleeping needs no core, so eight nodes fit a
machine of two; what does not scale shows. The share of linear is what all tasks are to last, divided by the nodes and
the seconds of the verb. rows: CPU-seconds of the driver at 1, 10 and 100 times the rows in as many files and shards,
nothing simulated. tasks: CPU-seconds of the driver for an empty task, from which follows what 1,000 nodes can do.

FILE is written after every measurement, and those that it holds are not repeated. FOLDER must have a short path.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench_scaling_nodes import measure_nodes  # noqa: E402


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the work, and CPU-seconds of this process."""
    begun, cpu = time.monotonic(), time.process_time()
    work()
    return {"seconds": round(time.monotonic() - begun, 2), "driver_cpu_s": round(time.process_time() - cpu, 2)}


def measure_rows(work: Path, done: dict[str, Any], save: Callable[[], None]) -> None:
    """The driver's CPU-seconds with more and more rows in as many files and shards, by verb."""
    import numpy as np
    import polars as pl

    import distill_at_scale as das

    das.connect(num_cpus=2)
    data, model = str(work / "rows-data"), str(work / "rows-model")
    for rows in (20_000, 20_000, 200_000, 2_000_000):  # the first time imports and starts what all need
        log, chance = work / f"rows-{rows}", np.random.default_rng(0)
        shutil.rmtree(log, ignore_errors=True)
        log.mkdir(parents=True)
        for part in range(16):
            n = rows // 16
            users, items = chance.integers(rows // 25, size=n), chance.zipf(1.3, size=n) % 2000
            frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": 1_500_000_000 + np.arange(n)})
            frame.write_parquet(log / f"part-{part}.parquet")
        verbs: dict[str, Callable[[], Any]] = {
            "prepare": partial(das.prepare, str(log), output=data, shards=16, overwrite=True),
            "sample": partial(das.sample, data, "random_users", budget=[0.2], output=f"{data}-part", overwrite=True),
            "fit popularity": partial(das.fit, data, "popularity", output=model, overwrite=True),
            "evaluate": partial(das.evaluate, data, model),
        }
        done[str(rows)] = {verb: measured(run) for verb, run in verbs.items()}
        print(rows, done[str(rows)], flush=True)
        save()
    import ray

    ray.shutdown()


def measure_tasks(done: dict[str, Any], save: Callable[[], None]) -> None:
    """The driver's CPU-seconds for a task that does nothing, by engine and number of tasks."""
    import ray

    import distill_at_scale as das
    from distill_at_scale.pipelines.runtime.run_record import RunRecord
    from distill_at_scale.pipelines.runtime.tasks import run_merged, run_stage

    das.connect(num_cpus=2)
    record = RunRecord("bench", {})

    def plainly(items: list[int]) -> Any:
        return run_stage(record, "tasks", _nothing, items)

    engines: dict[str, Callable[[list[int]], Any]] = {
        "thousands": plainly,
        "pipeline": plainly,
        "pipeline, 8 together": lambda items: run_stage(record, "tasks", _nothing, items, together=8),
        "light": lambda items: run_stage(record, "tasks", _nothing, items, light=True),
        "merged": lambda items: run_merged(record, "tasks", _nothing, items, sum),
    }
    for name, run in engines.items():
        run(list(range(16)))
        found = []
        for count in (2048, 8192) if name == "thousands" else (256, 1024):
            cpu, begun = time.process_time(), time.monotonic()
            run(list(range(count)))
            found.append((count, time.process_time() - cpu, time.monotonic() - begun))
        (few, cpu_few, _), (many, cpu_many, wall) = found
        done[name] = {
            "driver_cpu_ms_a_part": round(1e3 * (cpu_many - cpu_few) / (many - few), 2),
            "parts_a_second": round(many / wall, 1),
        }
        print(name, done[name], flush=True)
        save()
    ray.shutdown()


def _nothing(item: int) -> int:
    return item


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--part", choices=["nodes", "rows", "tasks"], action="append")
    parser.add_argument("--minutes", type=float, default=1e9, help="nothing starts after so long")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    state: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    state["command"] = "python jobs/bench_scaling.py --work FOLDER --output jobs/results/scaling.json"
    state["machine"] = f"{os.cpu_count()} cores"

    def save() -> None:
        options.output.write_text(json.dumps(state, indent=1) + "\n")

    for part in options.part or ("tasks", "rows", "nodes"):
        done = state.setdefault(part, {})
        if part == "nodes":
            measure_nodes(options.work, done, measured, save, until)
        elif part == "rows":
            measure_rows(options.work, done, save)
        else:
            measure_tasks(done, save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
