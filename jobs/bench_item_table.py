"""What composed item vectors keep of SASRec: own vectors against codes, hashes and digits, on ml-100k.

    python jobs/bench_item_table.py --output jobs/results/item-table.json     ../shared/data/ml-100k.inter

Leave-one-out by time; all items are ranked. Each case is fitted once with early stopping on the validation rows; the
figures are of the test rows. Finished cases are kept in the output and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ml-100k.inter"
COMMON = {"dim": 32, "blocks": 1, "dropout": 0.2, "learning_rate": 3e-3, "batch_size": 64, "epochs": 60, "patience": 8}
SMALL = {"books": 4, "book_size": 64}
CASES: dict[str, dict[str, Any]] = {
    "own": {},
    "codes": {"items": "codes", **SMALL, "own_items": 0},
    "codes, 100 items also their own": {"items": "codes", **SMALL, "own_items": 100},
    "hash": {"items": "hash", **SMALL, "own_items": 0},
    "quotient": {"items": "quotient", **SMALL, "own_items": 0},
    "own, sampled": {"sampled": 200},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    from distill_at_scale.evaluation import evaluate
    from distill_at_scale.models import create_model
    from distill_at_scale.models.item_table import table_numbers

    train, validation, histories, test = read_splits(options.data)
    content: dict[str, Any] = {
        "command": f"python jobs/bench_item_table.py --output {options.output}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "date": time.strftime("%Y-%m-%d"),
        "users": len(train),
        "items": train.n_items,
        "settings": COMMON,
        "cases": {},
    }
    if options.output.exists():
        content["cases"] = json.loads(options.output.read_text())["cases"]
    for name, changes in CASES.items():
        if name in content["cases"]:
            continue
        cpu = time.process_time()
        model = create_model("sasrec", {**COMMON, **changes, "device": "cpu"}).fit(train, validation)
        cpu_s = time.process_time() - cpu
        found = evaluate(model.scorer, histories, test, train.item_counts(), train.n_rows, (10,), known=train)
        config: Any = model.config
        numbers = table_numbers(train.n_items, config.dim, config)
        books = 0 if config.items == "own" else config.books if config.items != "quotient" else 2
        content["cases"][name] = {
            "settings": changes,
            "table_bytes": 4 * numbers + (books * train.n_items if config.items == "codes" else 0),
            "epochs": None if model.selection is None else model.selection.chosen,
            "validation": None if model.selection is None else max(p.metric for p in model.selection.points),
            "ndcg@10": round(found.metrics["ndcg@10"], 5),
            "recall@10": round(found.metrics["recall@10"], 5),
            "standard_error": round(found.standard_errors["ndcg@10"], 5),
            "cpu_s": round(cpu_s, 1),
        }
        print(name, content["cases"][name], flush=True)
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def read_splits(data: Path) -> tuple[Any, Any, Any, Any]:
    """Train, validation, both, and test rows: each user's newest row is the test's, the one before the validation's."""
    import numpy as np
    import polars as pl

    from distill_at_scale.data.interactions import Interactions

    log = pl.read_csv(data, separator="\t")
    log.columns = [name.split(":")[0] for name in log.columns]
    log = log.with_columns(
        pl.col("user_id").rank("dense").alias("user") - 1, pl.col("item_id").rank("dense").alias("item") - 1
    ).sort("user", "timestamp", "item")
    last = pl.int_range(pl.len(), 0, -1).over("user")  # 1 for the newest row
    log = log.with_columns(last.alias("back"))
    n_users, n_items = log["user"].n_unique(), log["item"].n_unique()

    def rows(chosen: pl.Expr) -> Interactions:
        part = log.filter(chosen)
        counts = np.bincount(part["user"].to_numpy(), minlength=n_users)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return Interactions(np.arange(n_users), offsets, part["item"].to_numpy().astype(np.int32), n_items)

    back = pl.col("back")
    return rows(back > 2), rows(back == 2), rows(back > 1), rows(back == 1)


if __name__ == "__main__":
    sys.exit(main())
