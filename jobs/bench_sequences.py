"""Compares distilled sequences with as many real ones, by their number, and for other student models.

    das prepare --input ml-100k.inter --min-user 5 --min-item 5 --split leave_2 --shards 1 --output ml-100k
    python jobs/bench_sequences.py --data ml-100k --output FOLDER                              all parts
    python jobs/bench_sequences.py --data ml-100k --output FOLDER --part real --counts 10,20

FOLDER is one of bench_farzi.py: its teachers (100 %) and its finished distillations are reused.

    real        SASRec on all train rows of a given number of users: random ones, the most active, or those that SVP's
                bias proxy finds hardest. It is trained as the full-data models are, on random windows; the epoch is
                selected by all users' validation rows. Three seeds, for the users and the model.
    distilled   a given number of sequences × 50 of the consensus, then learned, as in bench_farzi.py.
    transfer    the stored sequences of 'distilled' train other students: a wider and a deeper SASRec and a GRU4Rec, for
                the number of steps that the sequences were learned for (`das fit` takes twice as many), four seeds.
                100 % is the same model trained on the log, three seeds.

All choices are made on validation; test is used once. Results go to FOLDER/sequences.json; finished ones are
skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_farzi import METRICS, REPOSITORY, STUDENT_SEEDS, Bench, recipe_of

COUNTS = (10, 20, 50, 100, 200)
PARTS = ("real", "distilled", "transfer")
WAYS = ("random", "head", "svp")
SEEDS = (0, 1, 2)
# Steps of an epoch of a few users, whose windows alone would make one step.
_STEPS = 20
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "wider": ("sasrec", {"dim": 64}),
    "deeper": ("sasrec", {"blocks": 2}),
    "gru4rec": ("gru4rec", {"dim": 32, "hidden": 64}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the prepared Dataset")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--part", action="append", choices=PARTS, help="repeatable; default: all")
    parser.add_argument("--counts", type=lambda text: [int(n) for n in text.split(",")], default=list(COUNTS))
    parser.add_argument("--seed", type=int, default=0, help="outer seed of the distillations")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    worth = Worth(options.data, options.output, options.seed)
    for part in options.part or PARTS:
        getattr(worth, part)(options.counts)
    print(json.dumps(worth.found, indent=1))
    return 0


class Worth(Bench):
    """The parts."""

    def __init__(self, data: str, folder: Path, seed: int) -> None:
        super().__init__(data, folder, recipe_of(f"consensus-50x50-s{seed}", 100))
        self.data, self.seed = data, seed
        self.sequences = folder / "sequences.json"
        self.found: dict[str, dict[str, Any]] = {part: {} for part in (*PARTS, "others on the log")}
        if self.sequences.is_file():
            self.found |= json.loads(self.sequences.read_text())
        full = [entry["ndcg@10"] for entry in self.report["full"].values()]
        self.found["full"] = {"ndcg@10": round(float(np.mean(full)), 4), "seeds": len(full)}

    def note(self, part: str, name: str, found: dict[str, Any]) -> None:
        self.found[part][name] = found
        self.sequences.write_text(json.dumps(self.found, indent=1) + "\n")
        print(part, name, found, flush=True)

    # -- parts ----------------------------------------------------------------------------------------------

    def real(self, counts: list[int]) -> None:
        for way in WAYS:
            for count in counts:
                if f"{way}-{count}" in self.found["real"]:
                    continue
                clock = time.process_time()
                runs = [self.trained_on("sasrec", self.users(way, count, seed), seed) for seed in SEEDS]
                found = self.summed([self.measured(p, self.histories, self.test) for p in runs], self.full_ndcg)
                rows = [int(self.train.counts[self.users(way, count, seed)].sum()) for seed in SEEDS]
                found |= {
                    "train rows": round(float(np.mean(rows))),
                    "cpu_seconds": round(time.process_time() - clock, 1),
                }
                self.note("real", f"{way}-{count}", found)

    def distilled(self, counts: list[int]) -> None:
        for count in counts:
            name = f"consensus-{count}x50-s{self.seed}"
            self.run(name, recipe_of(name, 100))
            run = self.report["runs"][name]
            kept = ("start", "learned", "stored", "stored, random order, twice the steps")
            found = {key: run[key] for key in (*kept, "cpu_seconds", "bytes", "bytes, of the log's")}
            self.note("distilled", name, found)

    def transfer(self, counts: list[int]) -> None:
        from distill_at_scale.distillation.farzi import InnerLoop, dequantise, train_student
        from distill_at_scale.distillation.students import create_student

        for other, (name, settings) in OTHERS.items():
            given = {**self.config.student_settings(), **settings}
            student = create_student(name, self.train.n_items, {k: v for k, v in given.items() if _knows(name, k)})
            if other not in self.found["others on the log"]:
                runs = [self.trained_on(name, None, seed, settings) for seed in SEEDS]
                measured = [self.measured_as(student, p, self.histories, self.test) for p in runs]
                self.note("others on the log", other, self.summed(measured, None))
            full = self.found["others on the log"][other]["ndcg@10"]
            for count in counts:
                run = f"consensus-{count}x50-s{self.seed}"
                file = self.folder / f"{run}.safetensors.zst"
                if f"{other}, {run}" in self.found["transfer"] or not file.is_file():
                    continue
                latent, config, measured = dequantise(file.read_bytes()), recipe_of(run, 100), []
                for seed in STUDENT_SEEDS:
                    inner_loop = InnerLoop(config.batch, config.student_rate, True, seed)
                    learned = train_student(student, latent, inner_loop, config.horizon, seed)
                    measured.append(self.measured_as(student, learned, self.histories, self.test))
                self.note("transfer", f"{other}, {run}", self.summed(measured, full))

    # -- what they are made of --------------------------------------------------------------------------------

    @property
    def full_ndcg(self) -> float:
        return float(np.mean([entry["ndcg@10"] for entry in self.report["full"].values()]))

    def summed(self, runs: list[dict[str, float]], full: float | None) -> dict[str, Any]:
        """Means over seeds, and the spread of ndcg@10."""
        found: dict[str, Any] = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in METRICS}
        found["spread of ndcg@10"] = round(float(np.std([run["ndcg@10"] for run in runs], ddof=1)), 4)
        return found if full is None else {**found, "share": round(found["ndcg@10"] / full, 4)}

    def measured_as(self, student: Any, parameters: dict, histories: Any, heldout: Any) -> dict[str, float]:
        """:meth:`measured` of another student."""
        mine, self.student = self.student, student
        try:
            return self.measured(parameters, histories, heldout)
        finally:
            self.student = mine

    def users(self, way: str, count: int, seed: int) -> np.ndarray:
        """Returns positions of the selected users, int64 [count]; each has at least two train rows."""
        able = np.flatnonzero(self.train.counts > 1)
        if way == "random":
            return np.sort(np.random.default_rng([7, seed]).permutation(able)[:count])
        by = -self.train.counts.astype(np.float64) if way == "head" else -self.hardness(seed)
        return np.sort(able[np.argsort(by[able], kind="stable")[:count]])

    def hardness(self, seed: int) -> np.ndarray:
        """float64 [users]: the mean of SVP's scores of a user's train rows."""
        import ray

        from distill_at_scale.data.dataset import Dataset
        from distill_at_scale.pipelines.runtime.run_record import RunRecord
        from distill_at_scale.pipelines.training.svp_row_scores import score_rows
        from distill_at_scale.samplers.svp import row_scores

        dataset, uri = Dataset.open(self.data), row_scores.home(str(self.folder), "bias", "implicit", seed)
        if not Path(uri, row_scores.NAME).is_file():
            ray.init(include_dashboard=False, log_to_driver=False)
            try:
                record = RunRecord("score", {})
                score_rows(record, dataset, uri, proxy="bias", objective="implicit", seed=seed, epochs=50)
            finally:
                ray.shutdown()
        manifest = row_scores.open_scores(uri, dataset)
        counts, start, scores = self.train.counts, 0, np.empty(self.train.n_rows)
        for shard, rows in enumerate(dataset.iter_interactions("train")):
            stop = start + rows.n_rows
            scores[start:stop] = row_scores.read_part(uri, manifest, shard, rows.n_rows)
            start = stop
        return np.bincount(np.repeat(np.arange(len(counts)), counts), scores, len(counts)) / np.maximum(counts, 1)

    def trained_on(
        self, name: str, users: np.ndarray | None, seed: int, settings: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Parameters of a model trained on the train rows of some users or all, the best epoch on all users'
        validation rows."""
        import torch

        from distill_at_scale.distillation.farzi import WindowExamples, teacher_model
        from distill_at_scale.models.training.sources import MemorySource
        from distill_at_scale.models.training.trainer import Trainer

        given = {**self.config.teacher_settings(), **(settings or {}), "seed": seed, "device": "cpu"}
        model = teacher_model(name, {k: v for k, v in given.items() if _knows(name, k)})
        if users is not None:
            windows = int((-(-self.train.counts[users] // model.config.length)).sum())
            again = max(1, -(-_STEPS * model.config.batch_size // windows))
            rows = self.train.take(np.tile(users, again), timestamps=False)
            model.examples = lambda _: WindowExamples(rows, model.config.length)  # type: ignore[method-assign, assignment]
        trainer = Trainer(model, MemorySource(self.train, self.validation), torch.device("cpu"))
        trainer.run()
        return {key: value.detach() for key, value in trainer.module.named_parameters()}


def _knows(name: str, setting: str) -> bool:
    from distill_at_scale.models import find_model

    return setting in find_model(name).Config.model_fields


if __name__ == "__main__":
    sys.exit(main())
