"""The solvers of ∞-AE on MovieLens-1M: quality of Nyström relative to the exact solver, and pcg on many users.

    python jobs/bench_kernel.py --data FILE --output FOLDER                            all runs; those done are skipped
    python jobs/bench_kernel.py --data FILE --output FOLDER --run nystrom-2000-uniform --run pcg-12000

FILE is Parquet with columns user_id, item_id and split, as for bench_models.py. Results go to FOLDER/results.json.
nystrom-M-DRAW selects λ on validation and is tested on the log itself, as in bench_models.py. pcg-N runs on 4
workers over N users drawn with replacement, of whose rows a fifth is dropped (both by hash); agreement-N compares its
scores for some of the users with the exact solver's on the same users, λ = 5. CPU-seconds are of all workers, peak
memory of the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = [
    *(f"nystrom-{m}-{draw}" for m in (2000, 1000, 500) for draw in ("uniform", "leverage")),
    "pcg-12000",
    "agreement-12000",
    "pcg-25000",
]
WORKERS, LAM = 4, 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "ml-1m.parquet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", action="append", help="a run's name; repeatable; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a setting of ∞-AE")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}.items():
        os.environ.setdefault(name, value)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    settings = {field: json.loads(value) for field, value in (text.split("=", 1) for text in options.set)}
    for name in (name for name in options.run or RUNS if name not in results):
        kind, *rest = name.split("-")
        run = {"nystrom": run_nystrom, "pcg": run_pcg, "agreement": run_agreement}[kind]
        results[name] = run(options.data, options.output, settings, *rest)
        file.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps({name: results[name]}))
    return 0


def run_nystrom(data: Path, output: Path, settings: dict[str, Any], landmarks: str, draw: str) -> dict[str, Any]:
    """Fits with λ from validation, in a process of its own; returns test metrics and costs."""
    given = {"solver": "nystrom", "landmarks": int(landmarks), "draw": draw, **settings}
    command = [sys.executable, str(REPOSITORY / "jobs" / "bench_models.py"), "--data", str(data)]
    command += ["--model", "infinite_ae"]
    for field, value in given.items():
        command += ["--set", f"{field}={json.dumps(value)}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["infinite_ae"]


def run_pcg(data: Path, output: Path, settings: dict[str, Any], users: str) -> dict[str, Any]:
    """Fits on bootstrapped users; returns costs."""
    dataset = bootstrapped(data, output, int(users))
    return fit_on(dataset, str(output / "models" / f"pcg-{users}"), "pcg", WORKERS, {"lam": LAM, **settings})


def run_agreement(data: Path, output: Path, settings: dict[str, Any], users: str) -> dict[str, Any]:
    """Compares the scores of pcg's model with those of the exact solver for the test histories of some users."""
    import numpy as np

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.models import load_model

    dataset, model = bootstrapped(data, output, int(users)), str(output / "models" / f"exact-{users}")
    exact = fit_on(dataset, model, "exact", 1, {"lam": LAM})
    histories = Dataset.open(dataset).histories("test", 0)[0].slice(0, 500)
    expected, found = (load_model(uri).score(histories) for uri in (model, str(output / "models" / f"pcg-{users}")))
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return {"exact": exact, "relative_error": error, "largest_error": float(np.abs(found - expected).max())}


def fit_on(dataset: str, model: str, solver: str, workers: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One fit; its λ and costs."""
    import ray

    from distill_at_scale.pipelines.fit import fit

    # As many logical CPUs as workers, whatever the machine has.
    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        object_store_memory=300_000_000,
        log_to_driver=False,
        ignore_reinit_error=True,
    )
    started = time.monotonic()
    fitted = fit(data=dataset, model="infinite_ae", solver=solver, workers=workers, set=settings, output=model)
    plan = json.loads(Path(model, "run.json").read_text())["config"]["plan"]
    return {
        "settings": fitted.settings,
        "selection": fitted.selection,
        "cpu_seconds": fitted.cpu_s,
        "peak_mib": fitted.peak_mib,
        "wall_seconds": round(time.monotonic() - started, 1),
        "plan": plan,
    }


def prepared(data: Path, folder: Path) -> str:
    """The dataset of a log, made unless it is there."""
    from distill_at_scale.pipelines.prepare import prepare

    if not (folder / "manifest.json").exists():
        prepare(input=[str(data)], output=str(folder), split="column", shards=WORKERS)
    return str(folder)


def bootstrapped(data: Path, output: Path, n_users: int) -> str:
    """Returns a dataset of users drawn with replacement, each without a fifth of the rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from distill_at_scale.data import hashing

    log, folder = output / f"users-{n_users}.parquet", output / f"data-{n_users}"
    if not (folder / "manifest.json").exists():
        table = pq.read_table(data, columns=["user_id", "item_id", "split"])
        _, users = np.unique(table["user_id"].to_numpy(), return_inverse=True)
        order, counts = np.argsort(users, kind="stable"), np.bincount(users)
        draws = hashing.combine(hashing.stream("bench_kernel/users"), np.arange(n_users, dtype=np.uint64))
        drawn = (draws % np.uint64(len(counts))).astype(np.int64)
        starts, sizes = (np.cumsum(counts) - counts)[drawn], counts[drawn]
        owners = np.repeat(np.arange(n_users), sizes)
        places = np.arange(len(owners)) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        taken = table.take(order[places])
        begin = hashing.stream("bench_kernel/rows")
        draw = hashing.combine(begin, owners.astype(np.uint64), taken["item_id"].to_numpy().astype(np.uint64))
        keep = pa.array(hashing.share(draw, 5) > 0)
        pq.write_table(taken.set_column(0, "user_id", pa.array(owners)).filter(keep), log)
    return prepared(log, folder)


if __name__ == "__main__":
    sys.exit(main())
