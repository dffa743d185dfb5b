"""How well samplers keep the ranking of models and their quality: every sampler at every budget.

    python jobs/bench_retention.py --output FOLDER --data ml-100k
    python jobs/bench_retention.py --output FOLDER --data ml-1m --samplers random,random_users,svp_mf_prop --seeds 0,1
    python jobs/bench_retention.py --output FOLDER --data ml-1m --set bias.epochs=5 infinite_ae.solver=nystrom

ml-100k (its times kept, leave-one-out) is fetched from the catalog, or taken from --logs; ml-1m.parquet with the split
column of the ∞-AE paper is looked for in --logs, by default ../shared/data beside the repository. Ratings are taken as
implicit feedback. FOLDER gets the dataset, the samples, the results of every fit, and, rewritten after every sampler,
`retention-<data>.json` (mean and standard deviation over the seeds of Kendall's τ-b and of the share of ndcg@10 kept)
with a plot. All samplers run with the first seed, then with the second, … Finished fits are skipped: an interrupted run
resumes, and one with more samplers, budgets or seeds reuses the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

LOGS: dict[str, dict[str, Any]] = {
    "ml-100k": {"file": "ml-100k.inter", "split": "leave_2"},
    "ml-1m": {"file": "ml-1m.parquet", "split": "column"},
}
MODELS = "popularity,bias,mf,ease,svd_ae,infinite_ae"
BUDGETS = "0.8,0.5,0.2,0.1,0.01"
METRIC = "ndcg@10"


def main() -> int:
    from distill_at_scale.pipelines.compare import compare
    from distill_at_scale.pipelines.runtime import session
    from distill_at_scale.samplers import SAMPLERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--data", choices=list(LOGS), default="ml-100k")
    parser.add_argument("--logs", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the logs")
    parser.add_argument("--samplers", help="default: all that the data allows")
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--seeds", default="0,1,2", help="of the samples; the models' is always 0")
    parser.add_argument("--set", nargs="+", default=[], metavar="MODEL.NAME=VALUE", help="settings of models")
    options = parser.parse_args()
    given = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.set)}
    with session.ensure():
        dataset = _dataset(options.data, options.logs, options.output / options.data)
        names = options.samplers.split(",") if options.samplers else list(SAMPLERS)
        names = [name for name in names if dataset.manifest.has_timestamps or not SAMPLERS[name].timestamps]
        seeds = [int(seed) for seed in options.seeds.split(",")]
        found: list[Any] = []
        for seed in seeds:
            folder = options.output / f"{options.data}-samples" / f"seed-{seed}"
            for name in names:
                found.append(
                    compare(
                        data=dataset.uri,
                        samples=_samples(dataset.uri, name, options.budgets, seed, folder),
                        models=options.models,
                        set=given,
                        output=str(options.output / f"{options.data}-comparison"),
                    )
                )
                result = _summary(options, found)
                text = json.dumps(result, indent=1) + "\n"
                (options.output / f"retention-{options.data}.json").write_text(text)
    (options.output / f"retention-{options.data}.svg").write_bytes(_plot(result))
    print(_table(result))
    return 0


def _dataset(name: str, logs: Path, place: Path) -> Any:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.manifest import NAME
    from distill_at_scale.pipelines.fetch import fetch
    from distill_at_scale.pipelines.prepare import prepare

    if (place / NAME).is_file():
        return Dataset.open(str(place))
    log = LOGS[name]
    uris, given = [str(logs / log["file"])], {}
    if not Path(uris[0]).is_file():
        fetched = fetch(name=name)
        uris, given = fetched.uris, fetched.options
    return prepare(input=uris, output=str(place), split=log["split"], shards=1, **given)


def _samples(data: str, sampler: str, budgets: str, seed: int, folder: Path) -> list[str]:
    """Returns the folders of one sampler's samples; makes the missing ones in one run."""
    from distill_at_scale.data.manifest import NAME
    from distill_at_scale.pipelines.sample import sample

    places = {float(text): folder / f"{sampler}-{float(text):.12g}" for text in budgets.split(",")}
    missing = [budget for budget, place in places.items() if not (place / NAME).is_file()]
    if missing:
        sample(data=data, sampler=sampler, budget=missing, seed=seed, output=str(folder))
    return [str(place) for place in places.values()]


def _summary(options: argparse.Namespace, found: list[Any]) -> dict[str, Any]:
    cells: dict[tuple[str, float], list[Any]] = defaultdict(list)
    for small in (small for comparison in found for small in comparison.small):
        cells[small.method, small.budget].append(small)

    def spread(values: list[float]) -> dict[str, float]:
        known = [value for value in values if value is not None]
        deviation = statistics.stdev(known) if len(known) > 1 else 0.0
        return {"mean": round(statistics.fmean(known), 4), "sd": round(deviation, 4)}

    rows = [
        {
            "sampler": sampler,
            "budget": budget,
            "share": round(statistics.fmean(s.share for s in several), 4),
            "seeds": len(several),
            "tau": spread([s.retention.tau for s in several]),
            "kept": spread([s.retention.mean_kept(METRIC) for s in several]),
            "best": spread([max(t.metrics[METRIC] for t in s.models.values()) for s in several]),
            "models": {name: spread([s.models[name].metrics[METRIC] for s in several]) for name in several[0].models},
            "fit_cpu_s": round(statistics.fmean(sum(t.fit_cpu_s for t in s.models.values()) for s in several), 2),
        }
        for (sampler, budget), several in cells.items()
    ]
    return {
        "command": f"python jobs/bench_retention.py --data {options.data} --models {options.models} "
        f"--budgets {options.budgets} --seeds {options.seeds}"
        + (" --set " + " ".join(options.set) if options.set else ""),
        "data": options.data,
        "metric": METRIC,
        "full": {
            name: {METRIC: round(t.metrics[METRIC], 4), "fit_cpu_s": round(t.fit_cpu_s, 2)}
            for name, t in found[0].full.items()
        },
        "rows": rows,
    }


def _table(result: dict[str, Any]) -> str:
    """Markdown: a line a sampler, a column a budget, τ and the share of the metric kept."""
    budgets = sorted({row["budget"] for row in result["rows"]}, reverse=True)
    by = {(row["sampler"], row["budget"]): row for row in result["rows"]}
    lines = ["| τ / kept % | " + " | ".join(f"{100 * (1 - b):.0f} % removed" for b in budgets) + " |"]
    lines.append("|---" * (1 + len(budgets)) + "|")
    for sampler in dict.fromkeys(row["sampler"] for row in result["rows"]):
        cells = []
        for budget in budgets:
            row = by[sampler, budget]  # of fewer seeds in a run that was stopped
            tau, kept = row["tau"], row["kept"]
            cells.append(f"{tau['mean']:.2f} ± {tau['sd']:.2f} / {100 * kept['mean']:.0f} ± {100 * kept['sd']:.0f}")
        lines.append(f"| `{sampler}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plot(result: dict[str, Any]) -> bytes:
    """The share kept and τ against the share of rows, a picture a sampler, with the spread over the seeds."""
    from distill_at_scale.report.figures import numbers
    from distill_at_scale.report.figures.document import svg_document
    from distill_at_scale.report.figures.multiples import Multiples, Point

    def series(key: str) -> dict[str, list[Point]]:
        found: dict[str, list[Point]] = defaultdict(list)
        for row in sorted(result["rows"], key=lambda row: row["budget"]):
            mean, sd = row[key]["mean"], row[key]["sd"]
            found[row["sampler"]].append(Point(row["budget"], mean, mean - sd, mean + sd))
        return {sampler: found[sampler] for sampler in dict.fromkeys(row["sampler"] for row in result["rows"])}

    kept = Multiples(
        "kept",
        f"share of {METRIC} kept at each budget",
        series("kept"),
        "budget, % of train rows (log scale)",
        f"{METRIC} kept, % of full data's",
        [(1.0, "full")],
    )
    tau = Multiples(
        "tau",
        "Kendall's τ-b at each budget",
        series("tau"),
        "budget, % of train rows (log scale)",
        "Kendall's τ-b, 1: the same ranking",
        [(1.0, "full")],
        y_text=numbers.plain,
    )
    return svg_document([(f"{METRIC} kept", kept), ("Kendall's τ-b between rankings of the models", tau)], columns=5)


if __name__ == "__main__":
    sys.exit(main())
