"""Distill-CF on many logs, against the sketch and the most active users: test ndcg@10 of ∞-AE and EASE, and costs.

    python jobs/bench_distill_logs.py --output FOLDER [--log NAME] [--number N] [--seed N] [--set FIELD=JSON]

The logs (ml-1m.parquet with a split column, ml-100k.inter, amazon-ratings.tsv, yelp-ratings.tsv, and
amazon-beauty-5core.txt and amazon-toys-5core.txt, a line a user) are looked for in --data, by default ../shared/data
beside the repository. The logs NAME-short keep the latest one to five rows of each user, how many is drawn by hash;
yelp-ratings has no times, so its order is drawn too. yelp-shorter keeps one to three rows, amazon-late the latest
quarter of all rows by time, and ml-100k-expanded is `das expand --by 4x4` of ml-100k (seed 0). Results in
FOLDER/results.json are skipped. The distiller runs in this process, without Ray, on one worker.

Each run gives, for the result, the sketch and the most active users: the validation metric, by which the result was
selected, and the test metric; and by how many standard errors (of the paired difference, mean of both models) the
result leads the better of the two others on test.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[1]
if TYPE_CHECKING:
    import polars as pl

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.models.synthetic_rows import SyntheticRows

TSV: dict[str, Any] = {"format": "csv", "delimiter": "\t"}
LOGS: dict[str, dict[str, Any]] = {
    "ml-1m": {"file": "ml-1m.parquet", "split": "column"},
    "ml-100k": {"file": "ml-100k.inter"},
    "beauty": {"file": "amazon-beauty-5core.txt"},
    "toys": {"file": "amazon-toys-5core.txt"},
    "amazon": {"file": "amazon-ratings.tsv", "columns": ["user_id", "item_id", "rating", "timestamp"]},
    "yelp": {"file": "yelp-ratings.tsv", "columns": ["user_id", "item_id", "rating"], "split": "20_percent_hist"},
    "ml-100k-short": {"file": "ml-100k.inter", "most": 5},
    "amazon-short": {
        "file": "amazon-ratings.tsv",
        "columns": ["user_id", "item_id", "rating", "timestamp"],
        "most": 5,
    },
    "yelp-short": {"file": "yelp-ratings.tsv", "columns": ["user_id", "item_id", "rating"], "most": 5},
    "yelp-shorter": {"file": "yelp-ratings.tsv", "columns": ["user_id", "item_id", "rating"], "most": 3},
    "amazon-late": {
        "file": "amazon-ratings.tsv",
        "columns": ["user_id", "item_id", "rating", "timestamp"],
        "latest": 0.25,
    },
    "ml-100k-expanded": {"file": "ml-100k.inter", "expanded": "4x4"},
}
MODELS, METRIC = ("infinite_ae", "ease"), "ndcg@10"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the logs")
    parser.add_argument("--output", type=Path, required=True, help="folder for datasets and results")
    parser.add_argument("--log", action="append", choices=list(LOGS), help="a log; repeatable; default: all")
    parser.add_argument("--number", action="append", type=int, help="of synthetic users; repeatable; default: 100, 500")
    parser.add_argument("--seed", action="append", type=int, help="a seed; repeatable; default: 0")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a setting of distill_cf")
    parser.add_argument("--table", action="store_true", help="only print the table of what is done")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    given = {field: json.loads(value) for field, value in (text.split("=", 1) for text in options.set)}
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in [] if options.table else options.log or list(LOGS):
        for number in options.number or [100, 500]:
            for seed in options.seed or [0]:
                key = " ".join([f"{name} {number} seed {seed}", *options.set])
                if key in results:
                    continue
                results[key] = run(prepared(name, options), number, seed, given)
                file.write_text(json.dumps(results, indent=1) + "\n")
                print(key, json.dumps(results[key]), flush=True)
    print(table(results))
    return 0


def prepared(name: str, options: argparse.Namespace) -> Dataset:
    """The log as a Dataset of one shard, prepared unless it is."""
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.manifest import NAME

    place = options.output / "data" / name
    if (place / NAME).is_file():
        return Dataset.open(str(place))
    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.runtime import session

    log = dict(LOGS[name])
    file, most, share, by = (
        options.data / log.pop("file"),
        *(log.pop(key, None) for key in ("most", "latest", "expanded")),
    )
    if most is not None or share is not None:
        rows = read(file, log.pop("columns", None))
        file = options.output / f"{name}.parquet"
        (shortened(rows, most) if most is not None else late(rows, share)).write_parquet(file)
    elif "columns" in log:
        log.update(TSV)
    with session.ensure():
        if by is not None:
            from distill_at_scale.pipelines.expand import expand

            whole = prepared(name.removesuffix("-expanded"), options)
            file = Path(expand(data=whole.uri, by=by, output=str(options.output / name)).log)
        return prepare(input=[str(file)], output=str(place), shards=1, **{"split": "leave_2", **log})


def read(file: Path, columns: list[str] | None) -> pl.DataFrame:
    """The rows of a log; without names of columns, those of its header, less their types."""
    import polars as pl

    rows = pl.read_csv(file, separator="\t", has_header=columns is None, new_columns=columns)
    return rows.rename({name: name.split(":")[0] for name in rows.columns})


def late(rows: pl.DataFrame, share: float) -> pl.DataFrame:
    """The latest rows by time, about this share of all."""
    import polars as pl

    return rows.filter(pl.col("timestamp") >= pl.col("timestamp").quantile(1 - share, "higher"))


def shortened(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """The latest rows of each user, between one and ``most`` of them."""
    import numpy as np
    import polars as pl

    from distill_at_scale.data import hashing

    user, item = (rows[name].to_numpy().astype(np.uint64) for name in ("user_id", "item_id"))
    drawn = hashing.combine(hashing.stream("bench_distill_logs/order"), user, item)
    if "timestamp" not in rows.columns:
        rows = rows.with_columns(timestamp=pl.Series((drawn % np.uint64(10**8)).astype(np.int64) + 10**9))
    lengths = hashing.share(hashing.combine(hashing.stream("bench_distill_logs/lengths"), user), most) + 1
    rows = rows.with_columns(drawn=pl.Series(drawn), length=pl.Series(lengths)).sort("user_id", "timestamp", "drawn")
    from_end = pl.int_range(pl.len(), 0, -1).over("user_id")
    return rows.filter(from_end <= pl.col("length")).drop("drawn", "length")


class Alone:
    """Context of a distiller's run in this process, without checkpoints."""

    shared, work, checkpoint_every = None, "", 10**9

    def __init__(self, dataset: Dataset) -> None:
        import torch

        from distill_at_scale.models.training.communicator import Communicator

        self.dataset, self.communicator, self.device = dataset, Communicator(), torch.device("cpu")

    def on_progress(self, share: float, step: str) -> None:
        """Does nothing: no progress is shown."""

    def report(self, figures: dict[str, float]) -> None:
        """Does nothing: no metrics are reported."""

    def newest(self, folder: str = "") -> None:
        return None

    def keep(self, step: int, content: bytes, folder: str = "") -> None:
        """Does nothing: no checkpoints are kept."""

    def wait(self) -> None:
        """Does nothing: no files are written."""


def run(dataset: Dataset, number: int, seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """Distills, and evaluates the result and its contenders on the test rows."""
    import numpy as np

    from distill_at_scale.distillation.contenders import simple_contenders
    from distill_at_scale.distillation.distillers.distill_cf import DistillCFDistiller
    from distill_at_scale.distillation.distillers.sketch import real_users
    from distill_at_scale.evaluation.groups import difference_error
    from distill_at_scale.models.synthetic_rows import SyntheticRows

    distiller = DistillCFDistiller.create({"users": number, "seed": seed, **given})
    job, clock = Alone(dataset), time.monotonic()
    made = distiller.run(job)  # type: ignore[arg-type]
    wall_s = time.monotonic() - clock
    users = real_users(distiller.config, job)
    rows = {"result": SyntheticRows(made.data, dataset.n_users, made.n_rows, None, made.settings)}  # type: ignore[arg-type]
    for one in simple_contenders(distiller.config, number, users):
        rows[one.name] = one.tuned.rows
    test = {name: {model: on_test(dataset, model, of) for model in MODELS} for name, of in rows.items()}
    sums = {name: sum(of[model][1] for model in MODELS) / len(MODELS) for name, of in test.items()}
    counts = test["result"]["ease"][2]
    better = max(sums.keys() - {"result"}, key=lambda name: float(np.sum(sums[name])))
    return {
        "users": users.n_filled,
        "items": users.n_items,
        "rows_per_user": round(users.n_rows / users.n_filled, 1),
        "winner": made.winner,
        "best_step": max(made.curve, key=lambda point: point["metric"])["step"],
        "validation": made.contenders,
        "test": {name: {model: round(100 * of[model][0], 2) for model in MODELS} for name, of in test.items()},
        "lead": round(100 * float((sums["result"] - sums[better]).sum() / counts.sum()), 2),
        "standard_error": round(100 * difference_error(sums["result"], sums[better], counts), 2),
        "against": better,
        "cpu_s": round(made.cpu_s, 1),
        "wall_s": round(wall_s, 1),
    }


def on_test(dataset: Dataset, model: str, rows: SyntheticRows) -> tuple[float, Any, Any]:
    """The test metric of a model fitted on rows; its sums over groups of users, and their counts."""
    import numpy as np

    from distill_at_scale.models import create_model
    from distill_at_scale.models.selection import evaluator_of

    fitted = create_model(model, {}).fit_rows(rows)
    evaluator = evaluator_of(METRIC, np.ones(dataset.n_items), model)
    for shard in range(len(dataset.shards)):
        histories, heldout = dataset.histories("test", shard)
        users = np.flatnonzero(heldout.counts > 0)
        evaluator.add_all(fitted.score, histories.take(users, timestamps=False), heldout.take(users, timestamps=False))
    assert evaluator.groups is not None
    return evaluator.result().metrics[METRIC], evaluator.groups.sums[METRIC], evaluator.groups.counts


def table(results: dict[str, Any]) -> str:
    """One line a run: test metrics of ∞-AE / EASE in percent."""
    lines = [
        "| run | rows a user | result | sketch | most active users | kept | lead ± error | CPU-s |",
        "|" + "---|" * 8,
    ]
    for key, one in results.items():
        cells = [
            " / ".join(f"{one['test'][name][model]:.2f}" for model in MODELS) if name in one["test"] else "–"
            for name in ("result", "sketch", "most active users")
        ]
        kept = f"{one['winner']}, step {one['best_step']:g}"
        lead = f"{one['lead']:+.2f} ± {one['standard_error']:.2f}"
        lines.append(f"| {key} | {one['rows_per_user']} | {' | '.join(cells)} | {kept} | {lead} | {one['cpu_s']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
