"""A log that grows by ten time slices: fresh distillations against ones that start from the last result.

    python jobs/bench_redistill.py --output FOLDER [--log ml-100k] [--number N] [--slices N]

The log is divided at times into slices with as many rows each. The first one is prepared, the others are appended to it
one after another (`das prepare --append`). After each, `das distill` starts from scratch, `das distill --from` from
its own last result. Both run in this process, on one worker. The test metric is ndcg@10 of ∞-AE and EASE fitted on the
rows; the costs are CPU-seconds. The logs are those of jobs/bench_distill_logs.py. Results in FOLDER/results.json are
skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench_distill_logs import LOGS, METRIC, MODELS, REPOSITORY, on_test

sys.path.insert(0, str(REPOSITORY))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the logs")
    parser.add_argument("--output", type=Path, required=True, help="folder for datasets and results")
    parser.add_argument("--log", default="ml-100k", choices=["ml-100k", "beauty"], help="log")
    parser.add_argument("--number", type=int, default=50, help="of synthetic users")
    parser.add_argument("--slices", type=int, default=10, help="number of time slices")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for k, data in enumerate(slices(options)):
        key = f"{options.log} {options.number} slice {k}"
        place = options.output / options.log / f"{options.number}"
        found = results.setdefault(key, {})
        for way, last in {"fresh": None, "from": place / f"from-{k - 1}"}.items():
            if way in found:
                continue
            if way == "from" and not k:
                # The first result is what the second one starts from.
                (place / "from-0").symlink_to(place / "fresh-0")
                found[way] = None
            else:
                found[way] = distilled(str(data), place / f"{way}-{k}", options.number, last)
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(key, way, json.dumps(found[way]), flush=True)
    print(summary(results))
    return 0


def slices(options: argparse.Namespace) -> list[Path]:
    """The datasets after each slice, prepared unless they are."""
    from distill_at_scale.data.manifest import NAME

    places = [options.output / options.log / f"data-{k}" for k in range(options.slices)]
    if all((place / NAME).is_file() for place in places):
        return places
    import numpy as np
    import polars as pl

    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.runtime import session

    source = options.data / LOGS[options.log]["file"]
    if options.log == "beauty":
        lines = [line.split() for line in source.read_text().splitlines()]
        # A line has no times; its items are spread evenly over a time of its own, which is drawn.
        draws = np.random.default_rng(0).random((len(lines), 2)).cumsum(axis=1)
        rows = pl.DataFrame(
            [
                (line[0], item, int(5e8 * (a + (b - a) * place / len(line))))
                for line, (a, b) in zip(lines, draws)
                for place, item in enumerate(line[1:])
            ],
            schema=["user_id", "item_id", "timestamp"],
            orient="row",
        ).with_columns(pl.col("timestamp") + 1_000_000_000)
    else:
        rows = pl.read_csv(source, separator="\t")
        rows = rows.rename({name: name.split(":")[0] for name in rows.columns})
    rows = rows.sort("timestamp")
    with session.ensure():
        for k, place in enumerate(places):
            part = options.output / f"{options.log}-{k}.parquet"
            first, last = (len(rows) * at // options.slices for at in (k, k + 1))
            rows[first:last].write_parquet(part)
            if (place / NAME).is_file():
                continue
            how: dict[str, Any] = {"append": str(places[k - 1])} if k else {"shards": 1}
            prepare(input=[str(part)], output=str(place), **how)
    return places


def distilled(data: str, output: Path, number: int, last: Path | None) -> dict[str, Any]:
    """Distills in this process; test metrics and CPU-seconds."""
    import torch

    from distill_at_scale.config import DistillConfig
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.pipelines.distill import distiller_of
    from distill_at_scale.pipelines.distilling.group_job import GroupJob, SingleWorker, run_distiller
    from distill_at_scale.pipelines.training.worker_group import WorkerGroupSpec

    dataset, earlier = Dataset.open(data), None if last is None else SyntheticDataset.open(str(last))
    asked: dict[str, Any] = {} if last else {"users": number}
    distiller = distiller_of(DistillConfig(data=data, output=str(output), from_=last and str(last), **asked), earlier)
    distiller.earlier = earlier
    group = WorkerGroupSpec(workers=1, gpu=False, work=str(output / "_work"), checkpoint_every=10**9)
    job = GroupJob(group, SingleWorker(torch.device("cpu")), dataset, lambda share, what: None)
    cpu = time.process_time()
    run_distiller(distiller, job, "distill_cf", str(output))
    cpu = time.process_time() - cpu
    made = SyntheticDataset.open(str(output))
    rows = made.for_models()
    return {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "winner": made.manifest.winner,
        "best_step": max(made.manifest.curve, key=lambda point: point["metric"])["step"],
        "test": {model: round(100 * on_test(dataset, model, rows)[0], 3) for model in MODELS},
        "cpu_s": round(cpu, 2),
    }


def summary(results: dict[str, Any]) -> str:
    """Shares of quality and cost, over the slices that have both."""
    both = [one for one in results.values() if one["from"]]
    if not both:
        return "no slice has both"
    kept = {m: sum(o["from"]["test"][m] for o in both) / sum(o["fresh"]["test"][m] for o in both) for m in MODELS}
    cost = sum(one["from"]["cpu_s"] for one in both) / sum(one["fresh"]["cpu_s"] for one in both)
    shares = ", ".join(f"{model} {100 * share:.1f} %" for model, share in kept.items())
    return f"{len(both)} slices: {METRIC} of a fresh distillation: {shares}; CPU: {100 * cost:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
