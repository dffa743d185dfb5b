"""Memory of the samplers that learn, on a log of ten million items, beside what `--plan` says.

    python jobs/bench_catalogue.py                                       10 M items, 12 M rows, one epoch of the proxies
    python jobs/bench_catalogue.py --items 1e5 --rows 3e5 --samplers density svp_mf

Generates a log in which every item occurs and some occur often, prepares it, and samples it by each sampler in a
process of its own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from bench_samplers import BUDGETS, sample

SAMPLERS = ("density", "sensitivity", "svp_bias", "svp_mf", "svp_mf_users_prop")


def write_log(folder: Path, n_items: int, n_rows: int, seed: int) -> None:
    """Writes a log, a file for each million rows."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    often = (n_items * rng.random(n_rows - n_items) ** 4).astype(np.int64)
    items = rng.permutation(np.concatenate([np.arange(n_items), often]))
    users = rng.integers(0, max(1, n_rows // 30), n_rows)
    times = rng.integers(1_400_000_000, 1_600_000_000, n_rows)
    table = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    for k, part in enumerate(table.iter_slices(1_000_000)):
        part.write_parquet(folder / f"log-{k:03d}.parquet")


def das(*words: str) -> Any:
    """Runs a verb in a process of its own."""
    command = [sys.executable, "-m", "distill_at_scale.cli", *words, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=float, default=10e6)
    parser.add_argument("--rows", type=float, default=12e6)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, metavar="NAME")
    parser.add_argument("--data", type=Path, help="a dataset made before, in the place of a generated one")
    parser.add_argument("--folder", help="where the log and the datasets go; default: a temporary folder")
    parser.add_argument("--output", help="file for the JSON object")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="das-bench-", dir=arguments.folder))
    found: dict[str, Any] = {"cpus": os.cpu_count(), "items": int(arguments.items), "rows": int(arguments.rows)}
    try:
        data = arguments.data or folder / "data"
        if not data.exists():
            write_log(folder / "log", int(arguments.items), int(arguments.rows), 0)
            das("prepare", "--input", str(folder / "log"), "--output", str(data))
        for name in arguments.samplers:
            where = ("--data", str(data), "--output", str(folder / "samples"), "--budget", BUDGETS)
            planned = das("sample", "--sampler", name, *where, "--proxy-epochs", "1", "--plan")
            made = sample(data, folder / "samples", name, BUDGETS, 1)
            keys = ("stages", "driver_peak_mib", "worker_peak_mib", "all_processes_peak_mib")
            found[name] = {key: made[key] for key in keys}
            found[name]["planned_mib"] = {one["name"]: one["task_bytes"] >> 20 for one in planned["steps"]}
            print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
