"""Quality of distilled users against samples on ml-1m, and their cost, privacy and robustness to noise in the log.

    python jobs/bench_worth.py --data FOLDER --output FOLDER [--part quality|privacy|noise] [--seed N]

FOLDER holds ml-1m.parquet with its split column. Measurements in `<output>/results.json` are skipped.
Everything runs in this process, on one CPU with OMP_NUM_THREADS=1; Ray only makes the dataset and its samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "jobs")]

from measure_membership import advantage, largest_cosine, prediction_error, renumbered  # noqa: E402

from distill_at_scale.data.dataset import Dataset  # noqa: E402
from distill_at_scale.data.interactions import Interactions  # noqa: E402
from distill_at_scale.data.manifest import NAME  # noqa: E402
from distill_at_scale.distillation.distill_cf import DistillCF  # noqa: E402
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig  # noqa: E402
from distill_at_scale.distillation.select_lambda import select_lambdas  # noqa: E402
from distill_at_scale.distillation.sketch import initial_rows  # noqa: E402
from distill_at_scale.distillation.users import RealUsers  # noqa: E402
from distill_at_scale.evaluation import evaluate  # noqa: E402
from distill_at_scale.models import create_model  # noqa: E402
from distill_at_scale.models.base import Recommender  # noqa: E402
from distill_at_scale.models.synthetic_rows import SyntheticRows  # noqa: E402
from distill_at_scale.models.training.sources import MemorySource  # noqa: E402
from distill_at_scale.pipelines.prepare import prepare  # noqa: E402
from distill_at_scale.pipelines.runtime import session  # noqa: E402
from distill_at_scale.pipelines.sample import sample  # noqa: E402

USERS = 500
SAMPLERS = ("density", "sensitivity_users", "svp_bias_users")
MODELS = ("infinite_ae", "ease", "mf", "mvae")
NOISE = (0.1, 0.3)
METRICS = ("ndcg@10", "hr@10", "hr@100")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of the log")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--part", action="append", choices=("quality", "privacy", "noise"), help="repeatable")
    parser.add_argument("--model", action="append", choices=MODELS, help="of quality; repeatable; default: all")
    parser.add_argument("--sampler", action="append", choices=SAMPLERS, help="also in quality; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, default=USERS, help="distilled users of privacy and noise")
    options = parser.parse_args()
    log = options.data / "ml-1m.parquet"
    if not log.is_file():
        print(f"{log} not found; give its folder by --data.", file=sys.stderr)
        return 1
    folders = make_data(log, options.output, options.sampler or [])
    worth = Worth(options.output, folders, options.seed)
    for part in options.part or ("quality", "privacy", "noise"):
        if part == "quality":
            worth.quality(options.model or list(MODELS))
        elif part == "privacy":
            worth.privacy(options.users)
        else:
            worth.noise(options.users)
    print(json.dumps(worth.results, indent=2))
    return 0


def make_data(log: Path, output: Path, samplers: list[str]) -> dict[str, str]:
    """Returns the dataset, and samples with as many train rows as 500 random users have."""
    data = output / "data"
    if not (data / NAME).is_file():
        with session.ensure():
            prepare(input=[str(log)], output=str(data), split="column", shards=1)
    budget = [f"{USERS / Dataset.open(str(data)).n_users:.4f}"]
    missing = [name for name in samplers if not sorted((output / name).glob("*/" + NAME))]
    if missing:
        with session.ensure():
            for name in missing:
                sample(data=str(data), sampler=name, budget=budget, output=str(output / name), overwrite=True)
    samples = {name: str(sorted((output / name).glob("*/" + NAME))[0].parent) for name in samplers}
    return {"full": str(data), **samples}


class Worth:
    """Measures, and stores the results.

    Args:
        output: folder of results.json.
        folders: datasets by name, ``full`` among them.
        seed: Random seed.
    """

    def __init__(self, output: Path, folders: dict[str, str], seed: int) -> None:
        self._file, self._folders, self._seed = output / "results.json", folders, seed
        self._output = output
        self.results: dict[str, Any] = json.loads(self._file.read_text()) if self._file.is_file() else {}
        full = Dataset.open(folders["full"])
        self._train, self._validation = full.interactions("train"), full.interactions("validation")
        self._histories, self._test = full.histories("test", 0)

    def quality(self, models: list[str]) -> None:
        """Every model on the full data, on each sample, on distilled users and on the sketch."""
        for method in ("distill_cf", "sketch"):
            rows = self._distilled(f"{method}-{USERS}", self._train, self._validation, USERS, method)
            for model in models:
                self._once(f"quality/{method}/{model}", partial(self._on_rows, model, rows))
        for name, (train, validation) in self._real().items():
            for model in models:
                if (name, model) == ("full", "mvae"):
                    continue  # minutes; jobs/bench_quality.py has it
                fitted = self._once(
                    f"quality/{name}/{model}",
                    partial(self._on_log, model, train, validation),
                )
                fitted.setdefault("train_rows", train.n_rows)

    def _real(self) -> dict[str, tuple[Interactions, Interactions]]:
        """Train and validation rows of 500 random users, the 500 most active ones, the samples, and everyone."""
        drawn = np.sort(np.random.default_rng(self._seed).permutation(len(self._train))[:USERS])
        head = np.sort(np.argsort(-self._train.counts, kind="stable")[:USERS])
        chosen = {"random_500_users": drawn, "head_500_users": head}
        found = {name: (self._train.take(few), self._validation.take(few)) for name, few in chosen.items()}
        for name, uri in self._folders.items():
            data = Dataset.open(uri)
            found[name] = data.interactions("train"), data.interactions("validation")
        return found

    def privacy(self, users: int) -> None:
        """Distils half of the users and tests whether they can be distinguished from the other half.

        Two attacks, of which the better counts: the squared error of the model's prediction of a user's own row, each
        row by its mean; and the largest cosine of the user's row with a released row. The advantage is the largest
        true positive rate minus the false positive rate.
        """
        order = np.random.default_rng(self._seed).permutation(len(self._train))
        half = np.sort(order[: len(order) // 2])
        others = np.sort(order[len(order) // 2 :])
        train, heldout = renumbered(self._train.take(half)), renumbered(self._validation.take(half))
        members, strangers = self._train.take(half), self._train.take(others)

        def measure(released: np.ndarray, model: Recommender) -> dict[str, Any]:
            errors = [-prediction_error(model, rows) for rows in (members, strangers)]
            similar = [largest_cosine(rows, released) for rows in (members, strangers)]
            chance = advantage(*np.split(np.random.default_rng(1).random(2 * len(half)), 2))
            return {
                "by_error": advantage(*errors),
                "by_similarity": advantage(*similar),
                "of_a_random_score": chance,
                "quality": self._quality(model),
            }

        name = f"privacy/distill_cf-{users}"
        if name not in self.results:
            rows = self._distilled(f"half-{users}", train, heldout, users, "distill_cf")
            self._once(name, lambda: measure(rows.values, create_model("infinite_ae", {}).fit_rows(rows)))
        drawn = train.take(np.sort(np.random.default_rng(self._seed + 1).permutation(len(half))[:USERS]))
        few = heldout.take(np.flatnonzero(np.isin(heldout.users, drawn.users)))
        self._once(
            "privacy/random_users",
            lambda: measure(drawn.to_csr().toarray(), create_model("infinite_ae", {}).fit(drawn, few)),
        )
        self._once(
            "privacy/full",
            lambda: measure(train.to_csr().toarray(), create_model("infinite_ae", {"lam": 5.0}).fit(train)),
        )

    def noise(self, users: int) -> None:
        """Replaces a share of the train rows by uniform items; validation rows and test histories are unchanged."""
        for share in NOISE:
            train = noisy(self._train, share, self._seed)
            for model in ("infinite_ae", "ease"):
                name = f"noise-{share}"

                def few(m: str = model, t: Interactions = train) -> dict[str, Any]:
                    chosen = np.sort(np.random.default_rng(self._seed).permutation(len(t))[:USERS])
                    return self._judged(m, lambda f: f.fit(t.take(chosen), self._validation.take(chosen)))

                self._once(f"{name}/random_users/{model}", few)
                if f"{name}/distill_cf-{users}/{model}" not in self.results:
                    rows = self._distilled(f"{name}-{users}", train, self._validation, users, "distill_cf")
                    self._once(
                        f"{name}/distill_cf-{users}/{model}",
                        partial(self._on_rows, model, rows),
                    )
                self._once(
                    f"{name}/full/{model}",
                    partial(self._on_log, model, train, self._validation),
                )

    def _distilled(
        self, name: str, train: Interactions, validation: Interactions, users: int, method: str
    ) -> SyntheticRows:
        """Returns distilled users, stored in a file; their cost goes to the results."""
        file = self._output / f"{name}-seed{self._seed}.npz"
        if not file.is_file():
            wall, cpu = time.perf_counter(), time.process_time()
            real = RealUsers(MemorySource(train, validation), seed=self._seed)
            if method == "sketch":
                values = initial_rows("sketch", users, real, self._seed).numpy()
                tuned = select_lambdas(values, None, real, "ndcg@10")
            else:
                distiller = DistillCF(DistillCFConfig(users=users, seed=self._seed), real)
                distiller.run()
                tuned = distiller.result()
            kept: dict[str, Any] = {model: selection.chosen for model, selection in tuned.chosen.items()}
            cost = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            np.savez(file, values=tuned.rows.values, n_rows=tuned.rows.n_rows, **kept)
            self._keep(f"cost/{name}", cost)
        found = np.load(file)
        settings = {model: {"lam": float(found[model])} for model in ("infinite_ae", "ease")}
        return SyntheticRows(found["values"], len(train), int(found["n_rows"]), None, settings)

    def _on_rows(self, model: str, rows: SyntheticRows) -> dict[str, Any]:
        return self._judged(model, lambda fitted: fitted.fit_rows(rows))

    def _on_log(self, model: str, train: Interactions, validation: Interactions) -> dict[str, Any]:
        return self._judged(model, lambda fitted: fitted.fit(train, validation))

    def _judged(self, name: str, fit: Callable[[Recommender], Recommender]) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        model = fit(create_model(name, {}))
        cost = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        return {**self._quality(model), **cost}

    def _quality(self, model: Recommender) -> dict[str, float]:
        ones = np.ones(self._train.n_items)
        n_rows = self._train.n_rows
        found = evaluate(
            model.score, self._histories, self._test, ones, n_rows, (10, 100), n_negatives=0, name=model.name
        )
        return {metric: found.metrics[metric] for metric in METRICS}

    def _once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if self._key(name) not in self.results:
            self._keep(name, measure())
        found: dict[str, Any] = self.results[self._key(name)]
        return found

    def _keep(self, name: str, found: dict[str, Any]) -> None:
        self.results[self._key(name)] = {
            key: round(value, 5) if isinstance(value, float) else value for key, value in found.items()
        }
        self._file.write_text(json.dumps(self.results, indent=2) + "\n")
        print(self._key(name), self.results[self._key(name)], file=sys.stderr, flush=True)

    def _key(self, name: str) -> str:
        return f"{name}/seed{self._seed}"


def noisy(rows: Interactions, share: float, seed: int) -> Interactions:
    """Replaces the items of a random share of the rows by uniform ones; the CSR merges a user's duplicates."""
    rng = np.random.default_rng(seed + 100)
    items = rows.items.copy()
    chosen = rng.random(len(items)) < share
    items[chosen] = rng.integers(0, rows.n_items, int(chosen.sum()))
    plain = Interactions(rows.users, rows.offsets, items, rows.n_items).to_csr()
    return Interactions.from_csr(plain)


if __name__ == "__main__":
    sys.exit(main())
