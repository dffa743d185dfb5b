"""What the weights of samples bring: models that use them beside the same without, on validation rows.

    python jobs/bench_weights.py --data FOLDER --work WORK --output FILE.json [--log ml-100k] [--seeds 3] [--budget 0.1]

FOLDER holds ml-100k.inter and ml-1m.parquet. Models are fitted on a sample and measured by ndcg@10 on the validation
rows of all users, whose train rows are their histories. What is in the file is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models import create_model
from distill_at_scale.models.selection import validation_metric
from distill_at_scale.pipelines.runtime import session

LOGS = {"ml-100k": ("ml-100k.inter", "leave_2"), "ml-1m": ("ml-1m.parquet", "column")}
"""File and split of each log."""
SAMPLERS = ("sensitivity_users", "sensitivity", "density", "stratified")
MODELS = ("popularity", "ease", "als", "elsa")
METRIC = "ndcg@10"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--log", action="append", choices=tuple(LOGS), help="repeatable")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.1)
    options = parser.parse_args()
    results = json.loads(options.output.read_text())["results"] if options.output.is_file() else {}
    with session.ensure():
        for log in options.log or LOGS:
            file, split = LOGS[log]
            parent = prepared(options.data / file, split, options.work / log)
            train, validation = parent.interactions("train"), parent.interactions("validation")
            for sampler in SAMPLERS:
                for seed in range(options.seeds):
                    names = {
                        f"{log}/{sampler}/{model}/seed={seed}/budget={options.budget:g}": model for model in MODELS
                    }
                    names = {name: model for name, model in names.items() if name not in results}
                    if not names:
                        continue
                    samples = options.work / f"{log}-{seed}"
                    made = das.sample(
                        data=parent.uri,
                        sampler=sampler,
                        budget=[options.budget],
                        seed=seed,
                        output=str(samples),
                        overwrite=True,
                    )
                    sample = Dataset.open(made.samples[0].uri)
                    for name, model in names.items():
                        results[name] = measure(sample, model, train, validation)
                        print(name, results[name], flush=True)
                    content = {"command": "python jobs/bench_weights.py", "metric": METRIC, "results": results}
                    options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def prepared(log: Path, split: str, output: Path) -> Dataset:
    if (output / "manifest.json").is_file():
        return Dataset.open(str(output))
    return das.prepare(input=[str(log)], output=str(output), split=split, shards=2)


def measure(sample: Dataset, model: str, train: Interactions, validation: Interactions) -> dict[str, float]:
    """Returns the metric without and with weights, and the effective number of rows with them as a share."""
    found = {}
    rows, heldout = sample.interactions("train", weights=True), sample.interactions("validation")
    assert rows.weights is not None
    for name, weights in (("without", None), ("with", rows.weights)):
        fitted = create_model(model, {"weights": True}).fit(replace(rows, weights=weights), heldout)
        found[name] = round(validation_metric(fitted.scorer, train, validation, METRIC, model).metric, 6)
    squares = float((rows.weights.astype(float) ** 2).sum())
    found["effective_rows"] = round(float(rows.weights.sum(dtype=float)) ** 2 / squares / rows.n_rows, 3)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
