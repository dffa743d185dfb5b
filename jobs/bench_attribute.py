"""Values of train rows compared with retrainings without them (linear datamodelling score, LDS); detection of noise.

    python jobs/bench_attribute.py --output FOLDER [--part PART] [--model NAME] [--retrainings N] [--set FIELD=JSON]

The log is ml-100k.inter, looked for in --data, by default ../shared/data beside the repository.

- lds: the log has the latest train rows of each user that a sequential model reads, length + 1 (a row that is left out
  of a longer log lets an older one in). The model is trained again without a random 5 % of these rows, once for each
  retraining, from the same seed.
  The score is Spearman's correlation of the change of the validation loss that the values predict, the sum over the
  dropped rows, with the actual one. Beside it: a TRAK-like estimate, from random projections of each row's gradient at
  the trained parameters and a ridge-inverse of their Gram matrix. The cost is in CPU-seconds, beside that of a
  training by the same settings (`fit`, with its validation after each epoch).
- averaged: after lds by the same settings, with its retrainings: the score of values that are averaged over trainings
  without other random 5 % of the rows.
- seeds: after lds by several seeds (`--set seed=1`): Spearman's correlations, over the same draws, of the losses and
  values of each seed and of their means.
- noise: the item of 20 % of the train rows is replaced by a random one. The model is fitted on the clean rows, on the
  noisy ones, and on these without the tenth that has the smallest values (also: without a random tenth), and tested.

Everything runs in this process on one thread, without Ray. Results in FOLDER/attribute.json are skipped.
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
    import numpy as np

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.interactions import Interactions

DROPPED, NOISE, WORST = 0.05, 0.2, 0.1
AVERAGED = 8
PROJECTIONS, RIDGE = 48, 1e-2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the log")
    parser.add_argument("--output", type=Path, required=True, help="folder for the dataset and the results")
    parser.add_argument("--part", default="lds", choices=["lds", "averaged", "seeds", "noise"])
    parser.add_argument("--model", default="sasrec", help="ease or infinite_ae (noise only), sasrec, gru4rec or mf")
    parser.add_argument("--retrainings", type=int, default=50)
    parser.add_argument("--no-trak", action="store_true", help="leave the TRAK-like estimate out")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a setting of the model")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    import torch

    torch.set_num_threads(1)
    settings = {field: json.loads(value) for field, value in (text.split("=", 1) for text in options.set)}
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "attribute.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    entry = results.setdefault(" ".join([options.part, options.model, *options.set]), {})

    def save() -> None:
        file.write_text(json.dumps(results, indent=1) + "\n")

    dataset = prepared(options)
    if options.part == "lds":
        lds(dataset, options.model, settings, options.retrainings, not options.no_trak, entry, save, options.output)
    elif options.part == "averaged":
        of = results[" ".join(["lds", options.model, *options.set])]
        averaged(dataset, options.model, settings, of["retrained"], entry, save)
    elif options.part == "seeds":
        first = " ".join(["lds", options.model, *options.set])
        of_seeds = [one for key, one in results.items() if key.split(" seed=")[0] == first]
        seeds(of_seeds, entry)
        save()
    else:
        noise(dataset, options.model, settings, entry, save)
    print(json.dumps({key: value for key, value in entry.items() if key != "retrained"}))
    return 0


def prepared(options: argparse.Namespace) -> Dataset:
    """The log as a Dataset of one shard, prepared unless it is."""
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.manifest import NAME

    place = options.output / "ml-100k"
    if (place / NAME).is_file():
        return Dataset.open(str(place))
    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.runtime import session

    with session.ensure():
        return prepare(
            input=[str(options.data / "ml-100k.inter")], output=str(place), shards=1, split="20_percent_hist"
        )


def lds(
    dataset: Dataset,
    model: str,
    given: dict[str, Any],
    retrainings: int,
    with_trak: bool,
    entry: dict[str, Any],
    save: Any,
    output: Path,
) -> None:
    """Values and estimate once, then the retrainings."""
    import numpy as np

    from distill_at_scale.distillation.attribution.learners import create_learner, settings_of
    from distill_at_scale.distillation.attribution.training import Attribution
    from distill_at_scale.models import create_model

    settings = settings_of(model, given)
    train, heldout = rows_of(dataset, model, settings)
    held = values_file(output, model, settings)
    whole = Attribution(create_learner(model, settings, train), train, heldout)
    if "loss" not in entry or not held.is_file():
        cpu = time.process_time()
        create_model(model, {**settings, "device": "cpu", "patience": 10**6}).fit(train, heldout)
        fit_s, cpu = time.process_time() - cpu, time.process_time()
        found = whole.row_values()
        entry |= {"settings": settings, "loss": found.loss, "fit_cpu_s": round(fit_s, 2)}
        entry["attribute_cpu_s"] = round(time.process_time() - cpu, 2)
        entry["start_loss"] = start_loss(whole)
        estimates = np.zeros_like(found.values)
        if with_trak:
            cpu = time.process_time()
            estimates = trak(whole, train)
            entry["trak_cpu_s"] = round(time.process_time() - cpu, 2)
        np.savez(held, users=found.users, items=found.items, values=found.values, trak=estimates)
        save()
    scores = np.load(held)
    retrained = entry.setdefault("retrained", [])
    keys = scores["users"] * train.n_items + scores["items"]
    for k in range(len(retrained), retrainings):
        gone = dropped(k, len(keys))
        loss = Attribution(create_learner(model, settings, without(train, keys[gone])), train, heldout).trained().loss
        # A value is −∂loss/∂w, and a dropped row's weight falls by 1.
        predicted = {name: float(scores[name][gone].sum()) for name in ("values", "trak")}
        retrained.append({"loss": loss - entry["loss"], **predicted})
        entry |= summary(retrained)
        save()


def averaged(
    dataset: Dataset,
    model: str,
    given: dict[str, Any],
    retrained: list[dict[str, float]],
    entry: dict[str, Any],
    save: Any,
) -> None:
    """Values averaged over trainings without random rows, none of which is a retraining."""
    import numpy as np

    from distill_at_scale.distillation.attribution.learners import create_learner, settings_of
    from distill_at_scale.distillation.attribution.training import Attribution

    settings = settings_of(model, given)
    train, heldout = rows_of(dataset, model, settings)
    keys = np.unique(np.repeat(train.users, train.counts) * np.int64(train.n_items) + train.items)
    total, count, clock = np.zeros(len(keys)), np.zeros(len(keys)), time.process_time()
    for k in range(AVERAGED):
        rows = without(train, keys[dropped(10_000 + k, len(keys))])
        found = Attribution(create_learner(model, settings, rows), rows, heldout).row_values()
        at = np.searchsorted(keys, found.users * train.n_items + found.items)
        total[at] += found.values
        count[at] += 1
        values = total / np.maximum(count, 1)
        scored = [
            {"loss": one["loss"], "values": float(values[dropped(m, len(keys))].sum()), "trak": 0.0}
            for m, one in enumerate(retrained)
        ]
        entry[f"of {k + 1}"] = {**summary(scored), "cpu_s": round(time.process_time() - clock, 1)}
        save()


def seeds(of: list[dict[str, Any]], entry: dict[str, Any]) -> None:
    """Spearman's correlations of the changes of the losses by each seed and on average, and of the predicted ones."""
    import numpy as np
    from scipy.stats import spearmanr

    number = min(len(one["retrained"]) for one in of)
    changes = np.array([[one["loss"] for one in found["retrained"][:number]] for found in of])
    values = np.array([[one["values"] for one in found["retrained"][:number]] for found in of])

    def table(a: np.ndarray, b: np.ndarray) -> list[list[float]]:
        return [[round(float(spearmanr(x, y)[0]), 3) for y in (*b, b.mean(0))] for x in (*a, a.mean(0))]

    entry |= {
        "seeds": [found["settings"].get("seed", 0) for found in of],
        "retrainings": number,
        "losses with losses (each seed, mean)": table(changes, changes),
        "values with losses (each seed, mean)": table(values, changes),
        "values with values (each seed, mean)": table(values, values),
    }


def rows_of(dataset: Dataset, model: str, settings: dict[str, Any]) -> tuple[Interactions, Interactions]:
    """Train rows, the latest ones that a sequential model reads and one more, and validation rows."""
    from distill_at_scale.models import create_model

    train, heldout = dataset.interactions("train"), dataset.interactions("validation")
    if model in ("sasrec", "gru4rec"):
        train = latest(train, create_model(model, settings).config.length + 1)
    return train, heldout


def dropped(k: int, n: int) -> np.ndarray:
    """Which rows the k-th retraining leaves out, bool [n]."""
    import numpy as np

    from distill_at_scale.data import hashing

    return np.random.default_rng(hashing.stream("bench_attribute/dropped", k)).random(n) < DROPPED


def values_file(output: Path, model: str, settings: dict[str, Any]) -> Path:
    from distill_at_scale.data import hashing

    return output / f"values-{hashing.stream('bench_attribute/settings', *[hash_of(model, settings)])}.npz"


def hash_of(model: str, settings: dict[str, Any]) -> int:
    import hashlib

    text = json.dumps([model, settings], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def start_loss(whole: Any) -> float:
    """The validation loss before the first step."""
    return float(whole._loss(whole._start)[0])


def summary(retrained: list[dict[str, float]]) -> dict[str, Any]:
    """The score of the values and of the estimate; with how much of the actual change the values predict."""
    import numpy as np
    from scipy.stats import spearmanr

    if len(retrained) < 3:
        return {}
    actual = np.array([one["loss"] for one in retrained])
    values = np.array([one["values"] for one in retrained])
    estimates = [one["trak"] for one in retrained]
    of_trak = {"lds_trak": round(float(spearmanr(estimates, actual)[0]), 4)} if any(estimates) else {}
    return {
        "retrainings": len(retrained),
        "lds": round(float(spearmanr(values, actual)[0]), 4),
        **of_trak,
        "pearson": round(float(np.corrcoef(values, actual)[0, 1]), 4),
        "slope": round(float(np.polyfit(values, actual, 1)[0]), 4),
        "spread_of_loss": float(actual.std()),
    }


def latest(train: Interactions, number: int) -> Interactions:
    """The latest rows of each user, at most ``number``."""
    import numpy as np

    from distill_at_scale.data import ragged
    from distill_at_scale.data.interactions import Interactions

    counts = np.minimum(train.counts, number)
    rows = ragged.indices(train.offsets[1:] - counts, counts)
    return Interactions(train.users, ragged.offsets(counts), train.items[rows], train.n_items)


def without(train: Interactions, keys: np.ndarray) -> Interactions:
    """The rows without those of pairs of user and item; all users stay."""
    import numpy as np

    from distill_at_scale.data import ragged
    from distill_at_scale.data.interactions import Interactions

    owner = np.repeat(train.users, train.counts)
    stays = ~np.isin(owner * np.int64(train.n_items) + train.items, keys)
    counts = np.bincount(np.searchsorted(train.users, owner[stays]), minlength=len(train))
    return Interactions(train.users, ragged.offsets(counts), train.items[stays], train.n_items)


def trak(whole: Any, train: Interactions) -> np.ndarray:
    """A TRAK-like value of each row: φ_validᵀ (ΦᵀΦ + λI)^-1 φ_row, φ a random projection of a gradient at the end.

    A row's projected gradients are derivatives of its loss in random directions, which forward mode gives for all rows
    at once. Source: Park, Georgiev, Ilyas, Leclerc, Madry, "TRAK" (ICML 2023), equation 15 without its weights.
    """
    import numpy as np
    import torch
    import torch.autograd.forward_ad as forward_ad

    from distill_at_scale.data import hashing
    from distill_at_scale.distillation.adjoint.trees import as_vector

    learner = whole._learner
    theta, views = as_vector(whole.trained().parameters)
    _, slope = whole._loss(theta, with_gradient=True)
    generator = torch.Generator().manual_seed(hashing.stream("bench_attribute/projections"))
    per_epoch = learner.n_steps // learner.config.epochs
    seen = [learner.batch(k) for k in range(per_epoch)]
    projected = np.zeros((PROJECTIONS, len(learner.row_users)))
    target = np.zeros(PROJECTIONS)
    for k in range(PROJECTIONS):
        direction = torch.randn(len(theta), generator=generator)
        target[k] = float(slope @ direction)
        for batch in seen:
            with torch.no_grad(), forward_ad.dual_level():
                losses = learner.losses(views(forward_ad.make_dual(theta, direction)), batch)
                slopes = forward_ad.unpack_dual(losses).tangent.flatten().numpy()
            rows = batch["rows"].flatten().numpy()
            own = (slopes != 0) & (rows < projected.shape[1])
            projected[k, rows[own]] = slopes[own]
    gram = projected @ projected.T
    gram[np.diag_indices(PROJECTIONS)] += RIDGE * np.trace(gram) / PROJECTIONS
    values = np.linalg.solve(gram, target) @ projected
    keys, place = np.unique(learner.row_users * np.int64(train.n_items) + learner.row_items, return_inverse=True)
    return np.bincount(place, values, len(keys))


def noise(dataset: Dataset, model: str, given: dict[str, Any], entry: dict[str, Any], save: Any) -> None:
    """Test metrics of fits on clean rows, noisy rows, and noisy rows without the worst tenth."""
    import numpy as np

    from distill_at_scale.data import hashing
    from distill_at_scale.data.interactions import Interactions
    from distill_at_scale.distillation.attribution import CLOSED_FORM
    from distill_at_scale.distillation.attribution.closed_form import row_values
    from distill_at_scale.distillation.attribution.learners import create_learner, settings_of
    from distill_at_scale.distillation.attribution.training import Attribution
    from distill_at_scale.models import create_model

    train, heldout = dataset.interactions("train"), dataset.interactions("validation")
    rng = np.random.default_rng(hashing.stream("bench_attribute/noise"))
    items = train.items.copy()
    replaced = rng.random(len(items)) < NOISE
    items[replaced] = rng.integers(train.n_items, size=int(replaced.sum()))
    noisy = Interactions(train.users, train.offsets, items, train.n_items)
    lam = None
    if model in CLOSED_FORM:
        settings = dict(given)
        selection = create_model(model, settings).fit(noisy, heldout).selection
        lam = float(settings.get("lam") or (selection and selection.chosen) or 0)
        found = row_values(model, noisy, heldout, lam)
    else:
        settings = settings_of(model, given)
        found = Attribution(create_learner(model, settings, noisy), noisy, heldout).row_values()
    keys, order = found.users * train.n_items + found.items, np.argsort(found.values)
    worst = order[: int(WORST * len(order))]
    random = rng.permutation(len(order))[: len(worst)]
    owner = np.repeat(train.users, train.counts)
    bad = np.isin(keys, (owner * np.int64(train.n_items) + items)[replaced])
    versions = {
        "clean": train,
        "noisy": noisy,
        "without_worst": without(noisy, keys[worst]),
        "without_random": without(noisy, keys[random]),
    }
    entry |= {"settings": settings, "lam": lam, "noise_among_worst": round(float(bad[worst].mean()), 3)}
    for name, rows in versions.items():
        entry[name] = tested(dataset, model, settings, rows, heldout)
        save()
    lost = {m: entry["clean"][m] - entry["noisy"][m] for m in entry["clean"]}
    entry["won_back"] = {m: round((entry["without_worst"][m] - entry["noisy"][m]) / lost[m], 3) for m in lost}
    save()


def tested(
    dataset: Dataset, model: str, settings: dict[str, Any], rows: Interactions, heldout: Interactions
) -> dict[str, float]:
    """Test metrics of a fit, whose users' histories at the test are clean."""
    import numpy as np

    from distill_at_scale.evaluation import RankingEvaluator
    from distill_at_scale.models import create_model

    fitted = create_model(model, settings).fit(rows, heldout)
    histories, test = dataset.histories("test", 0)
    evaluator = RankingEvaluator(np.ones(dataset.n_items), (10, 100), n_negatives=0)
    evaluator.add_all(fitted.score, histories, test)
    metrics = evaluator.result().metrics
    return {name: round(metrics[name], 5) for name in ("ndcg@10", "ndcg@100")}


if __name__ == "__main__":
    sys.exit(main())
