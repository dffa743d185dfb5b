"""Cost of a sweep relative to the same trials run one by one, each from scratch, in one Ray session.

    python jobs/bench_sweep.py --data ml-100k --output bench-sweep            8 methods × 4 budgets × 4 models × 2 seeds

One by one means sample, fit and evaluate for each trial, with nothing shared and the session started beforehand. All of
them would take an hour, so a seeded sample is run, and the total is their mean times the number of trials.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time

import distill_at_scale as das
from distill_at_scale.data import storage
from distill_at_scale.genie.trials import FULL, read_trials
from distill_at_scale.pipelines.runtime import run_record

METHODS = (
    "random",
    "stratified",
    "random_users",
    "head_users",
    "centrality",
    "random_walk",
    "density",
    "svp_bias_users",
)
BUDGETS = ("0.5", "0.1", "0.05", "0.01")
MODELS = ("popularity", "ease", "svd_ae", "infinite_ae")
SEEDS = 2


def one_by_one(data: str, output: str, trials: list[tuple[str, float, int, str]]) -> list[float]:
    """Seconds of each trial."""
    taken = []
    for method, budget, seed, model in trials:
        start, rows = time.monotonic(), data
        if method != FULL:
            place = storage.join(output, "sample")
            made = das.sample(data=data, sampler=method, budget=str(budget), seed=seed, output=place, overwrite=True)
            rows = made.samples[0].uri
        fitted = das.fit(data=rows, model=model, output=storage.join(output, "model"), overwrite=True)
        das.evaluate(data=data, model=fitted.uri)
        taken.append(time.monotonic() - start)
        storage.remove(output)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k", help="name of the catalog")
    parser.add_argument("--output", required=True, help="folder for the dataset, the sweep and the numbers")
    parser.add_argument("--alone", type=int, default=12, help="trials that are run one by one")
    options = parser.parse_args()
    output = storage.normalise(options.output)
    das.connect()
    log = das.fetch(name=options.data)
    place = storage.join(output, "data")
    data = das.prepare(input=log.uris, output=place, split="leave_2", overwrite=True, **log.options)

    start = time.monotonic()
    swept = das.sweep(
        data=data.uri,
        methods=list(METHODS),
        budgets=list(BUDGETS),
        models=list(MODELS),
        seeds=SEEDS,
        output=storage.join(output, "sweep"),
        overwrite=True,
    )
    together = time.monotonic() - start
    _, trials = read_trials(swept.uri)
    drawn = random.Random(0).sample(trials.select("method", "budget", "seed", "model").rows(), options.alone)
    alone = one_by_one(data.uri, storage.join(output, "alone"), drawn)
    mean = statistics.mean(alone)
    result = {
        "command": "python " + " ".join(sys.argv),
        "data": options.data,
        "trials": swept.trials,
        "done": swept.done,
        "failed": swept.failed,
        "fits": swept.fits,
        "sweep_s": round(together, 1),
        "alone_trials": len(alone),
        "alone_mean_s": round(mean, 2),
        "alone_standard_error_s": round(statistics.stdev(alone) / len(alone) ** 0.5, 2),
        "one_by_one_s": round(mean * swept.trials, 1),
        "times_faster": round(mean * swept.trials / together, 2),
        "versions": run_record.versions(),
    }
    storage.write_json(storage.join(output, "sweep.json"), result)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
