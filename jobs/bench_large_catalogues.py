"""The models for large catalogues, als and elsa, on MovieLens-1M; prints one JSON object.

    python jobs/bench_large_catalogues.py --output jobs/results/large-catalogues.json
    python jobs/bench_large_catalogues.py --data FILE --model elsa --set dim=128 --seeds 1

For each model: first a fit that selects its open setting on validation (als: λ; elsa: the number of epochs) unless it
is set, then, for each seed, a fit with the selected value, tested with train and validation rows as histories.
CPU-seconds of a fit are those of the fit alone, in a process that a tiny fit has warmed up; imports, reading and
evaluation are not counted.
FILE is as for bench_models.py. Set OMP_NUM_THREADS=1 for CPU-seconds that do not depend on the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "jobs")]

from bench_models import DEFAULT_DATA, read_splits  # noqa: E402

METRICS = ("ndcg@10", "hr@10", "ndcg@100", "hr@100")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--model", action="append", help="als or elsa; repeatable; default: both")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a model's setting")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.data.is_file():
        print(f"{options.data} not found; give a Parquet file with a split column by --data.", file=sys.stderr)
        return 1
    splits = read_splits(options.data)
    settings = {"device": "cpu", **{k: json.loads(v) for k, v in (text.split("=", 1) for text in options.set)}}
    report = {name: bench(name, settings, splits, options.seeds) for name in options.model or ("als", "elsa")}
    print(json.dumps(report, indent=2))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def bench(name: str, settings: dict[str, Any], splits: dict[str, Any], n_seeds: int) -> dict[str, Any]:
    """The selection of one model, and its fits with what was selected."""
    from distill_at_scale.evaluation import evaluate
    from distill_at_scale.models import create_model
    from distill_at_scale.models.warming import warm_up

    parameter = {"als": "lam", "elsa": "epochs"}[name]
    train, validation, test, histories = (splits[key] for key in ("train", "validation", "test", "histories"))
    warm_up(name, settings)
    clock = time.process_time()
    model = None if parameter in settings else create_model(name, settings).fit(train, validation)
    selecting = time.process_time() - clock
    found: dict[str, Any] = {}
    selection = None
    if model is not None:
        assert model.selection is not None
        chosen = model.selection.chosen
        found = {parameter: int(chosen) if chosen == int(chosen) else chosen}
        points = [[point.value, point.metric] for point in model.selection.points]
        selection = {**found, "cpu_s": round(selecting, 1), "points": points}
    fits = []
    for seed in range(n_seeds):
        clock = time.process_time()
        fitted = create_model(name, {**settings, **found, "seed": seed}).fit(train)
        spent = time.process_time() - clock
        result = evaluate(fitted.score, histories, test, train.item_counts(), train.n_rows, known=train, name=name)
        percent = {metric: round(100 * result.metrics[metric], 2) for metric in METRICS}
        fits.append({"seed": seed, "cpu_s": round(spent, 1), **percent})
        print(f"{name}: {fits[-1]}", file=sys.stderr)
    return {
        "settings": settings,
        "selection": selection,
        "fits": fits,
        "mean ndcg@10": round(sum(fit["ndcg@10"] for fit in fits) / max(len(fits), 1), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
