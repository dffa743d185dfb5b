"""Fits and tests every model on MovieLens-1M; prints metrics, CPU-seconds and peak memory as one JSON object.

    python jobs/bench_models.py                                     all models, ../shared/data/ml-1m.parquet
    python jobs/bench_models.py --data FILE --model ease --set lam=400

FILE is Parquet with columns user_id, item_id and split (0 train, 1 validation, 2 test). Every model runs in a
process of its own, so that CPU time and peak memory (imports and reading included) are its own. Each selects its
hyper-parameter on validation and is tested with train and validation rows as histories. The AUC draws its
negatives as the ∞-AE reference does: neither train nor test items of the user.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ml-1m.parquet"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--model", action="append", help="a model's name; repeatable; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a model's setting")
    parser.add_argument("--in-process", action="store_true", help="run the one given model here")
    options = parser.parse_args()
    if not options.data.is_file():
        print(f"{options.data} not found; give a Parquet file with a split column by --data.", file=sys.stderr)
        return 1
    sys.path.insert(0, str(REPOSITORY))
    if options.in_process:
        settings = {field: json.loads(value) for field, value in (text.split("=", 1) for text in options.set)}
        print(json.dumps(run_model(options.data, options.model[0], settings)))
        return 0

    from distill_at_scale.models import MODELS

    report = {}
    for name in options.model or MODELS:
        command = [sys.executable, __file__, "--in-process", "--data", str(options.data), "--model", name]
        command += [part for text in options.set for part in ("--set", text)]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        output = process.stdout.read()
        # wait4 gives what this one child has used; ru_maxrss is in KiB on Linux.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            return process.returncode
        report[name] = {
            **json.loads(output),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "wall_seconds": round(time.perf_counter() - started, 2),
            "peak_rss_gib": round(usage.ru_maxrss / 2**20, 3),
        }
    print(json.dumps(report, indent=2))
    return 0


def run_model(data: Path, name: str, settings: dict) -> dict:
    """Fits and tests one model; returns its metrics as fractions and what it chose."""
    from distill_at_scale.evaluation import evaluate
    from distill_at_scale.models import create_model

    splits = read_splits(data)
    train, validation, test, histories = (splits[key] for key in ("train", "validation", "test", "histories"))
    model = create_model(name, settings).fit(train, validation)
    cpu = time.process_time()
    scoring = 0.0

    def score(rows):  # type: ignore[no-untyped-def]
        nonlocal scoring
        clock = time.process_time()
        scores = model.score(rows)
        scoring += time.process_time() - clock
        return scores

    result = evaluate(score, histories, test, train.item_counts(), train.n_rows, known=train, name=model.name)
    evaluating = time.process_time() - cpu - scoring
    return {
        "metrics": {metric: round(value, 7) for metric, value in result.metrics.items()},
        "standard_errors": {metric: round(value, 7) for metric, value in result.standard_errors.items()},
        "n_users": result.n_users,
        "selection": None if model.selection is None else model.selection.model_dump(mode="json"),
        "cpu_seconds_scoring": round(scoring, 2),
        "cpu_seconds_evaluating": round(evaluating, 2),
    }


def read_splits(data: Path) -> dict:
    """Interactions of each split (and of train and validation together, ``histories``), ids numbered in order."""
    import numpy as np
    import pyarrow.parquet as pq

    from distill_at_scale.data.interactions import Interactions

    table = pq.read_table(data, columns=["user_id", "item_id", "split"])
    user_ids, users = np.unique(table["user_id"].to_numpy(), return_inverse=True)
    item_ids, items = np.unique(table["item_id"].to_numpy(), return_inverse=True)
    split = table["split"].to_numpy()

    def rows_of(chosen: np.ndarray) -> Interactions:
        order = np.lexsort((items[chosen], users[chosen]))
        owners = users[chosen][order]
        return Interactions(
            users=np.arange(len(user_ids), dtype=np.int64),
            offsets=np.searchsorted(owners, np.arange(len(user_ids) + 1)),
            items=items[chosen][order].astype(np.int32),
            n_items=len(item_ids),
        )

    chosen = {"train": split == 0, "validation": split == 1, "test": split == 2, "histories": split < 2}
    return {name: rows_of(mask) for name, mask in chosen.items()}


if __name__ == "__main__":
    sys.exit(main())
