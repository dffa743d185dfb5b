"""What differential privacy costs on ml-1m, and what it prevents: quality, and the advantage of a membership attack.

    python jobs/bench_privacy.py --data DATASET --output FILE.json [--part quality|attack] [--seeds 2]

DATASET is ml-1m, prepared with its own split column. What is in the file is not measured again. All of it runs in this
process. The attacks are those of jobs/measure_membership.py: half of the users are distilled, and are to be told from
the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from measure_membership import advantage, largest_cosine, prediction_error, renumbered  # noqa: E402

from distill_at_scale.data.dataset import Dataset  # noqa: E402
from distill_at_scale.data.interactions import Interactions  # noqa: E402
from distill_at_scale.distillation.distill_cf import DistillCF  # noqa: E402
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig  # noqa: E402
from distill_at_scale.distillation.privacy.loop import PrivateDistillCF  # noqa: E402
from distill_at_scale.distillation.privacy.run import ease_lam  # noqa: E402
from distill_at_scale.distillation.select_lambda import ease_score, ridge_score  # noqa: E402
from distill_at_scale.distillation.users import RealUsers  # noqa: E402
from distill_at_scale.evaluation.ranking import evaluate  # noqa: E402
from distill_at_scale.models import create_model  # noqa: E402
from distill_at_scale.models.synthetic_rows import SyntheticRows  # noqa: E402
from distill_at_scale.models.training.sources import MemorySource  # noqa: E402

USERS = 100
EPSILONS = (8.0, 2.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--part", action="append", choices=("quality", "attack"), help="repeatable")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    bench = Bench(Dataset.open(options.data), options.output)
    for seed in range(options.seeds):
        for part in options.part or ("quality", "attack"):
            for epsilon in (*EPSILONS, None):
                name = f"{part}/epsilon={'none' if epsilon is None else f'{epsilon:g}'}/seed={seed}"
                bench.once(name, partial(bench.quality if part == "quality" else bench.attack, epsilon, seed))
    return 0


class Bench:
    """Measures, and keeps what is measured.

    Args:
        dataset: ml-1m.
        file: JSON file of the results.
    """

    def __init__(self, dataset: Dataset, file: Path) -> None:
        self._file = file
        self.results: dict[str, Any] = json.loads(file.read_text())["results"] if file.is_file() else {}
        self._train, self._validation = dataset.interactions("train"), dataset.interactions("validation")
        self._histories, self._test = dataset.histories("test", 0)

    def once(self, name: str, measure: Any) -> None:
        """Measures what the file does not hold."""
        if name in self.results:
            return
        started = time.process_time()
        found = measure() | {"cpu_s": time.process_time() - started}
        self.results[name] = {key: round(value, 5) for key, value in found.items()}
        command = "python jobs/bench_privacy.py --data ml-1m --output jobs/results/privacy.json"
        self._file.write_text(json.dumps({"command": command, "results": self.results}, indent=1) + "\n")
        print(name, self.results[name], file=sys.stderr, flush=True)

    def quality(self, epsilon: float | None, seed: int) -> dict[str, float]:
        """ndcg@10 on test of ∞-AE and EASE, fitted on rows of all users."""
        rows, noise = self._distilled(self._train, self._validation, epsilon, seed)
        return noise | self._tested(rows)

    def attack(self, epsilon: float | None, seed: int) -> dict[str, float]:
        """Half of the users are distilled; how well two attacks tell them from the others, and a random score."""
        order = np.random.default_rng(seed).permutation(len(self._train))
        halves = [np.sort(half) for half in np.array_split(order, 2)]
        members, strangers = (self._train.take(half) for half in halves)
        heldout = renumbered(self._validation.take(halves[0]))
        rows, noise = self._distilled(renumbered(members), heldout, epsilon, seed)
        model = create_model("infinite_ae", {}).fit_rows(rows)
        chance = np.random.default_rng(seed + 1).random(2 * len(halves[1]))
        return (
            noise
            | {
                "by_error": advantage(*(-prediction_error(model, some) for some in (members, strangers))),
                "by_similarity": advantage(*(largest_cosine(some, rows.values) for some in (members, strangers))),
                "of_a_random_score": advantage(*np.split(chance, 2)),
            }
            | self._tested(rows)
        )

    def _distilled(
        self, train: Interactions, validation: Interactions, epsilon: float | None, seed: int
    ) -> tuple[SyntheticRows, dict[str, float]]:
        if epsilon is None:
            users = RealUsers(MemorySource(train, validation), seed=seed)
            open_loop = DistillCF(DistillCFConfig(users=USERS, seed=seed), users)
            open_loop.run()
            return open_loop.result().rows, {}
        # No validation rows: they are not read.
        users = RealUsers(MemorySource(train, None), seed=seed)
        config = DistillCFConfig(users=USERS, seed=seed, privacy={"epsilon": epsilon})
        loop = PrivateDistillCF(config, users)
        loop.run()
        values, lam = loop.rows()
        chosen = {"infinite_ae": {"lam": lam}, "ease": {"lam": ease_lam(loop.start.n_rows, users.n_items)}}
        record = loop.record()
        noise = {"epsilon": record.epsilon, "delta": record.delta, "noise_multiplier": record.noise_multiplier}
        return SyntheticRows(values, users.n_users, loop.start.n_rows, None, chosen), noise

    def _tested(self, rows: SyntheticRows) -> dict[str, float]:
        scores = {
            "infinite_ae": ridge_score(rows.given, rows.chosen["infinite_ae"]["lam"]),
            "ease": ease_score(rows, rows.chosen["ease"]["lam"]),
        }
        ones = np.ones(self._train.n_items)
        found = {}
        for name, score in scores.items():
            judged = evaluate(
                score, self._histories, self._test, ones, self._train.n_rows, (10,), n_negatives=0, name=name
            )
            found[f"{name}_ndcg@10"] = judged.metrics["ndcg@10"]
        return found


if __name__ == "__main__":
    sys.exit(main())
