"""Trains models on real logs; reports their quality beside published figures, and the cost of each run.

    python jobs/bench_quality.py --output FOLDER                   every run below, one after another
    python jobs/bench_quality.py --output FOLDER --run beauty-sasrec --run ml-1m-mf

The logs (ml-1m.parquet with a split column; amazon-beauty-5core.txt and amazon-toys-5core.txt, a line a user) are
looked for in --data, by default ../shared/data beside the repository. FOLDER gets a dataset for each log, the models,
and results.json: metrics on the test rows (all items ranked, seen ones masked), the published figure to reach, wall
and CPU seconds and peak memory. Finished runs are skipped; a killed run resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

DATASETS: dict[str, dict[str, Any]] = {
    "ml-1m": {"file": "ml-1m.parquet", "split": "column"},
    "beauty": {"file": "amazon-beauty-5core.txt", "split": "leave_2"},
    "toys": {"file": "amazon-toys-5core.txt", "split": "leave_2"},
}
# Published: ml-1m in Sachdeva et al., "Infinite recommendation networks" (NeurIPS 2022); SASRec's in Rajput et al.,
# "Recommender systems with generative retrieval" (NeurIPS 2023), trained with sampled negatives.
RUNS: dict[str, dict[str, Any]] = {
    "ml-1m-mf": {"data": "ml-1m", "model": "mf", "set": {}, "published": {"ndcg@10": 0.2565}},
    "ml-1m-mvae": {"data": "ml-1m", "model": "mvae", "set": {}, "published": {"ndcg@10": 0.2214}},
    "ml-1m-lightgcn": {"data": "ml-1m", "model": "lightgcn", "set": {}, "published": {"ndcg@10": 0.2885}},
    "beauty-sasrec": {
        "data": "beauty",
        "model": "sasrec",
        "set": {},
        "published": {"hr@10": 0.0605, "ndcg@10": 0.0318},
    },
    "toys-sasrec": {"data": "toys", "model": "sasrec", "set": {}, "published": {"hr@10": 0.0675, "ndcg@10": 0.0374}},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for datasets, models and results")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the logs")
    parser.add_argument("--run", action="append", choices=list(RUNS), help="a run; repeatable; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a setting for all models")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--cpus", type=int, help="of the session; default: all (fewer on a machine with other work)")
    options = parser.parse_args()
    chosen = options.run or list(RUNS)
    missing = {DATASETS[RUNS[name]["data"]]["file"] for name in chosen}
    missing = {file for file in missing if not (options.data / file).is_file()}
    if missing:
        print(
            f"not found in {options.data}: {', '.join(sorted(missing))}; give their folder by --data.", file=sys.stderr
        )
        return 1
    sys.path.insert(0, str(REPOSITORY))
    from distill_at_scale.pipelines.runtime import session

    given = {field: json.loads(value) for field, value in (text.split("=", 1) for text in options.set)}
    results_file = options.output / "results.json"
    results = json.loads(results_file.read_text()) if results_file.is_file() else {}
    with session.ensure(num_cpus=options.cpus):
        for name in chosen:
            settings = {**RUNS[name]["set"], **given}
            asked = {"settings": settings, "workers": options.workers, "gpu": options.gpu}
            if name in results and all(results[name][key] == value for key, value in asked.items()):
                continue
            results[name] = {**asked, **run(name, settings, options)}
            results_file.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({name: results[name] for name in chosen}, indent=2))
    return 0


def run(name: str, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Prepares the log unless it is, fits (or goes on fitting) the model, and measures it."""
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.manifest import NAME
    from distill_at_scale.pipelines.evaluate import evaluate
    from distill_at_scale.pipelines.fit import fit
    from distill_at_scale.pipelines.prepare import prepare

    wanted = RUNS[name]
    log = DATASETS[wanted["data"]]
    place = options.output / "data" / wanted["data"]
    if (place / NAME).is_file():
        dataset = Dataset.open(str(place))
    else:
        dataset = prepare(input=[str(options.data / log["file"])], output=str(place), split=log["split"], shards=1)
    model = str(options.output / "models" / name)
    fitted = fit(
        data=dataset.uri,
        model=wanted["model"],
        output=model,
        set=settings,
        workers=options.workers,
        gpu=options.gpu,
        overwrite=True,
    )
    found = evaluate(data=dataset.uri, model=model)
    selection = fitted.selection
    return {
        "model": wanted["model"],
        "data": wanted["data"],
        "metrics": found.metrics,
        "standard_errors": found.standard_errors,
        "published": wanted["published"],
        "reached": all(found.metrics[metric] >= value for metric, value in wanted["published"].items()),
        "epochs": 0 if selection is None else len(selection.points),
        "best_epoch": None if selection is None else selection.chosen,
        "wall_s": fitted.wall_s,
        "cpu_s": fitted.cpu_s,
        "peak_mib": fitted.peak_mib,
    }


if __name__ == "__main__":
    sys.exit(main())
