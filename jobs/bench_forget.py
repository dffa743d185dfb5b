"""Users forgotten in distilled ml-100k: distilled again exactly, quickly, and from a log that never had them.

    python jobs/bench_forget.py --output FOLDER [--method distill_cf|farzi] [--share SHARE]

The log (ml-100k.inter) is looked for in --data. A share of the users, drawn at random, is forgotten by `das forget`,
with and without --quick; for comparison the log without their rows is prepared and distilled afresh. Each result gives:
ndcg@10 on the test rows of the users who stay, of models fitted on it; the share of it that the forgotten users explain
(as `das forget` tells it, from the whole log); the distance |AᵀA − BᵀB| / |AᵀA| of its rows B from the former ones A,
for sequences of the sums of their soft tokens; and CPU-seconds of the distillation. What lies in the folder is not made
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench_distill_logs import LOGS, METRIC, REPOSITORY

sys.path.insert(0, str(REPOSITORY))

ASKED: dict[str, dict[str, Any]] = {
    "distill_cf": {"users": 100},
    "farzi": {"sequences": 10, "length": 10, "set": {"steps": 5, "horizon": 20, "teachers": 1}},
}
MODELS = {"distill_cf": ("infinite_ae", "ease"), "farzi": ("sasrec",)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the log")
    parser.add_argument("--output", type=Path, required=True, help="folder for datasets and results")
    parser.add_argument("--method", default="distill_cf", choices=list(ASKED), help="distiller")
    parser.add_argument("--share", type=float, default=0.05, help="of the users, who are forgotten")
    options = parser.parse_args()
    if not (options.data / LOGS["ml-100k"]["file"]).is_file():
        print(f"{options.data} has no {LOGS['ml-100k']['file']}; nothing was measured.")
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    results[f"{options.method}, {options.share:g} of the users"] = compared(options)
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))
    return 0


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Makes the sets by the verbs, and measures them."""
    import distill_at_scale as das
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.pipelines.runtime import session

    folder, method = options.output, options.method
    place = folder / f"{method}-{options.share:g}"
    names = {name: place / name for name in ("former", "exact", "quick", "fresh")}
    names["former"] = folder / f"{method}-former"
    with session.ensure():
        data = _once(folder / "data", lambda out: das.prepare(input=[str(_log(options))], output=out, shards=1))
        users, log = drawn(options, Dataset.open(data), place)
        _once(names["former"], lambda out: das.distill(data=data, method=method, output=out, **ASKED[method]))
        made: dict[str, Any] = {"data": str(names["former"]), "users": users}
        _once(names["exact"], lambda out: das.forget(**made, output=out))
        _once(names["quick"], lambda out: das.forget(**made, output=out, quick=True))
        fresh = _once(place / "fresh-data", lambda out: das.prepare(input=[log], output=out, shards=1))
        _once(names["fresh"], lambda out: das.distill(data=fresh, method=method, output=out, **ASKED[method]))
    whole, left = Dataset.open(data), Dataset.open(f"{names['exact']}-log")
    sets = {name: SyntheticDataset.open(str(uri)) for name, uri in names.items()}
    gone = ~whole.users(0)["user_id"].is_in(left.users(0)["user_id"].implode()).to_numpy()
    former = sets["former"]
    logs = {name: Dataset.open(fresh) if name == "fresh" else left for name in sets}
    return {name: measured(one, former, whole, logs[name], gone, method) for name, one in sets.items()}


def measured(made: Any, former: Any, whole: Any, left: Any, gone: Any, method: str) -> dict[str, Any]:
    """Quality on the users who stay, what the others explain, distance from the former set, and cost."""
    from distill_at_scale.distillation.dependence import shares_of

    m = made.manifest
    same_items = m.n_items == former.n_items
    return {
        "test": {model: round(100 * on_test(made, left, model), 2) for model in MODELS[method]},
        "explained": round(float(shares_of(made, whole.to_csr("train"), gone).mean()), 4) if same_items else None,
        "distance": round(distance(content(former), content(made)), 4) if same_items else None,
        "winner": m.winner,
        "real_users": m.parent.n_users,
        "cpu_s": round(m.cost["cpu_s"], 1),
    }


def on_test(made: Any, dataset: Any, model: str) -> float:
    """Test metric of a model fitted on the set."""
    import numpy as np

    from distill_at_scale.models import create_model
    from distill_at_scale.models.selection import evaluator_of

    fitted = create_model(model, {}).fit(made)
    evaluator = evaluator_of(METRIC, np.ones(dataset.n_items), model)
    for shard in range(len(dataset.shards)):
        histories, heldout = dataset.histories("test", shard)
        users = np.flatnonzero(heldout.counts > 0)
        evaluator.add_all(fitted.score, histories.take(users), heldout.take(users, timestamps=False))
    return float(evaluator.result().metrics[METRIC])


def content(made: Any) -> Any:
    """Rows, or the sums of the soft tokens of sequences, float64 [n, n_items]."""
    import numpy as np

    if made.manifest.kind == "rows":
        return made.rows().astype(np.float64)
    latent = made.sequences()
    return np.stack([latent.distributions(k).sum(dim=0).double().numpy() for k in range(len(latent))])


def distance(a: Any, b: Any) -> float:
    """|AᵀA − BᵀB| / |AᵀA| (Frobenius), from products of rows."""
    import numpy as np

    aa, bb, ab = (float(np.square(one @ other.T).sum()) for one, other in ((a, a), (b, b), (a, b)))
    return max(aa + bb - 2 * ab, 0.0) ** 0.5 / aa**0.5


def drawn(options: argparse.Namespace, data: Any, place: Path) -> tuple[str, str]:
    """Files of the forgotten users' ids and of the log without their rows."""
    import numpy as np
    import polars as pl

    place.mkdir(parents=True, exist_ok=True)
    users, log = place / "users.txt", place / "log.csv"
    if not log.is_file():
        ids = data.users(0)["user_id"].to_numpy()
        gone = np.random.default_rng(0).permutation(ids)[: round(options.share * len(ids))]
        users.write_text("\n".join(map(str, gone)))
        rows = pl.read_csv(_log(options), separator="\t")
        rows = rows.rename({name: name.split(":")[0] for name in rows.columns})
        rows.filter(~pl.col("user_id").is_in(gone)).write_csv(log)
    return str(users), str(log)


def _log(options: argparse.Namespace) -> Path:
    log: Path = options.data / LOGS["ml-100k"]["file"]
    return log


def _once(place: Path, make: Any) -> str:
    from distill_at_scale.data.manifest import NAME

    if not (place / NAME).is_file():
        make(str(place))
    return str(place)


if __name__ == "__main__":
    sys.exit(main())
