"""Rows kept by their values, against other samplers at one budget: test metrics of models fitted on the samples.

    python jobs/bench_value.py --output FOLDER --log ml-100k [--values MODEL[:USERS]] [--sampler NAME] [--model NAME]

The logs are those of jobs/bench_distill_logs.py, looked for in --data. For each log, `das attribute` values the train
rows for a model, all of them or (MODEL:USERS) by a rater of the values of some users; `das sample` keeps the rows
with the largest values, and samples by the other samplers. Models are fitted on each sample and on all rows in this
process, on one thread, and tested with the users' whole histories. What is in FOLDER is not made again.

A rater's scores are compared with the values of the same model, if those are there: Spearman's correlation over the
rows of users that it was not fitted on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "jobs")]

from bench_distill_logs import LOGS, prepared  # noqa: E402

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.interactions import Interactions

SAMPLERS = ("random", "random_users", "density", "svp_bias")
SMALL = {"dim": 32, "blocks": 1, "length": 50, "learning_rate": 3e-3, "batch_size": 256}
FITTED: dict[str, dict[str, Any]] = {"ease": {}, "mf": {}, "sasrec": {**SMALL, "epochs": 40}}
"""Models that are fitted on the samples, and their settings."""
ATTRIBUTED: dict[str, dict[str, Any]] = {"ease": {}, "mf": {}, "sasrec": {"dim": 32, "blocks": 1, "length": 50}}
"""Models whose rows get values, and their settings."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the logs")
    parser.add_argument("--output", type=Path, required=True, help="folder for datasets, values, samples and results")
    parser.add_argument("--log", action="append", choices=list(LOGS), required=True, help="a log; repeatable")
    parser.add_argument("--values", action="append", metavar="MODEL[:USERS]", help="repeatable; default: all models")
    parser.add_argument("--sampler", action="append", help=f"repeatable; default: {', '.join(SAMPLERS)}")
    parser.add_argument("--model", action="append", choices=list(FITTED), help="fitted; repeatable; default: all")
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--seed", action="append", type=int, help="of samplers and models; repeatable; default: 0")
    parser.add_argument("--table", action="store_true", help="only print the table of what is done")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "value.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for log in [] if options.table else options.log:
        measured = results.setdefault(log, {"values": {}, "fits": {}})

        def save() -> None:
            file.write_text(json.dumps(results, indent=1) + "\n")

        dataset = prepared(log, options)
        samples = sampled(dataset, log, options, measured["values"])
        compare_raters(dataset, options.output / "values" / log, measured["values"])
        save()
        for seed in options.seed or [0]:
            for name, place in [("all rows", dataset.uri), *((name, samples[name, seed]) for name, _ in samples)]:
                for model in options.model or list(FITTED):
                    key = f"{name} {model} seed {seed}"
                    if key not in measured["fits"]:
                        measured["fits"][key] = fitted(dataset, place, model, seed)
                        save()
                        print(log, key, measured["fits"][key], flush=True)
    print(table(results))
    return 0


def sampled(
    dataset: Dataset, log: str, options: argparse.Namespace, costs: dict[str, Any]
) -> dict[tuple[str, int], str]:
    """Values and samples, those that are missing in one session; the places of the samples by name and seed."""
    from distill_at_scale.data.manifest import NAME
    from distill_at_scale.pipelines.attribute import attribute
    from distill_at_scale.pipelines.runtime import session
    from distill_at_scale.pipelines.sample import sample

    places: dict[tuple[str, int], str] = {}
    seeds = options.seed or [0]
    with session.ensure():
        for text in options.values or list(ATTRIBUTED):
            model, _, users = text.partition(":")
            scores = options.output / "values" / log / f"{text.replace(':', '-')}.parquet"
            if text not in costs:
                made = attribute(
                    data=dataset.uri,
                    model=model,
                    output=str(scores),
                    set=ATTRIBUTED[model],
                    users=int(users) if users else None,
                    overwrite=True,
                )
                costs[text] = made.model_dump(include={"cpu_s", "rank_correlation", "rows", "harmful"})
            place = options.output / "samples" / log / f"value-{scores.stem}"
            if not list(place.glob(f"**/{NAME}")):
                sample(
                    data=dataset.uri,
                    sampler="column=value",
                    scores=str(scores),
                    budget=[options.budget],
                    output=str(place),
                )
            for seed in seeds:  # of the models; values draw nothing
                places[f"value {text}", seed] = str(next(place.glob(f"**/{NAME}")).parent)
        for name in options.sampler or SAMPLERS:
            for seed in seeds:
                place = options.output / "samples" / log / f"{name}-seed-{seed}"
                if not list(place.glob(f"**/{NAME}")):
                    sample(data=dataset.uri, sampler=name, budget=[options.budget], seed=seed, output=str(place))
                places[name, seed] = str(next(place.glob(f"**/{NAME}")).parent)
    return places


def compare_raters(dataset: Dataset, folder: Path, costs: dict[str, Any]) -> None:
    """Adds how each rater's scores of rows that it has not seen agree with the values."""
    import numpy as np
    import polars as pl

    from distill_at_scale.distillation.attribution.rater import rank_correlation
    from distill_at_scale.distillation.attribution.sampled_users import sample_users

    ids = pl.concat([dataset.users(shard)["user_id"] for shard in range(len(dataset.shards))])
    for text, one in costs.items():
        model, _, users = text.partition(":")
        if users and model in costs and "correlation_with_values" not in one:
            seen = ids.gather(sample_users(dataset, int(users)).numbers)
            scores, values = (pl.read_parquet(folder / f"{name}.parquet") for name in (f"{model}-{users}", model))
            both = scores.join(values, on=["user_id", "item_id"]).filter(~pl.col("user_id").is_in(seen.implode()))
            found = rank_correlation(*(np.asarray(both[name]) for name in ("value", "value_right")))
            one["correlation_with_values"] = round(found, 3)


def fitted(dataset: Dataset, place: str, model: str, seed: int) -> dict[str, Any]:
    """Test metrics of a model fitted on the rows of a sample."""
    import numpy as np

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.evaluation import RankingEvaluator
    from distill_at_scale.models import create_model

    few = Dataset.open(place)
    cpu = time.process_time()
    config = {**FITTED[model], **({} if model == "ease" else {"seed": seed, "device": "cpu"})}
    made = create_model(model, config).fit(few.interactions("train"), few.interactions("validation"))
    cpu_s = time.process_time() - cpu
    evaluator = RankingEvaluator(np.ones(dataset.n_items), (10, 100), n_negatives=0)
    for shard in range(len(dataset.shards)):
        evaluator.add_all(made.score, *judged(dataset, shard))
    metrics = evaluator.result().metrics
    return {
        "rows": few.manifest.splits["train"],
        **{name: round(metrics[name], 5) for name in ("ndcg@10", "ndcg@100")},
        "cpu_s": round(cpu_s, 1),
    }


def judged(dataset: Dataset, shard: int) -> tuple[Interactions, Interactions]:
    """Histories and test rows of the users who have test rows."""
    import numpy as np

    histories, heldout = dataset.histories("test", shard)
    users = np.flatnonzero(heldout.counts > 0)
    return histories.take(users, timestamps=False), heldout.take(users, timestamps=False)


def table(results: dict[str, Any]) -> str:
    """A line a sample, a column a model: mean test ndcg@10 over the seeds, in percent."""
    lines = []
    for log, measured in results.items():
        models = list(dict.fromkeys(key.split(" seed ")[0].rsplit(" ", 1)[1] for key in measured["fits"]))
        names = list(dict.fromkeys(key.split(" seed ")[0].rsplit(" ", 1)[0] for key in measured["fits"]))
        lines += [f"| {log} | {' | '.join(models)} |", "|" + "---|" * (1 + len(models))]
        for name in names:
            cells = []
            for model in models:
                found = [
                    one["ndcg@10"] for key, one in measured["fits"].items() if key.startswith(f"{name} {model} seed ")
                ]
                cells.append(" / ".join(f"{100 * value:.2f}" for value in found) or "–")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
