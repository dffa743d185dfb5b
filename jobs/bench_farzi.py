"""Distils MovieLens-100K by Farzi and says what share of full-data quality is kept; writes one JSON file.

    das prepare --input ml-100k.inter --min-user 5 --min-item 5 --split leave_2 --shards 1 --output ml-100k
    python jobs/bench_farzi.py --data ml-100k --output FOLDER                        every run below
    python jobs/bench_farzi.py --data ml-100k --output FOLDER --run decoupled-50x20-s0

100 % is SASRec (1 layer, 1 head, width 32, length 50) trained on all train rows until validation ndcg@10 falls, mean
of three seeds, which are the teachers too. A run starts latent sequences from them, distils, and trains four students
each on the start and on what was distilled: 100 Adam steps, and 200 with the sequences in random order. Everything is
chosen on validation; test, with train and validation rows as histories, is looked at once a run. FOLDER gets the
teachers, checkpoints and results.json; what is finished is not done again, and a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
DECOUPLED = {"coupled": False, "width": 65, "sharpness": 20.0, "foresight": 1.0, "popularity": 0.0, "config": {}}
COUPLED = {
    "coupled": True,
    "width": 129,
    "sharpness": 4.0,
    "foresight": 0.5,
    "popularity": 0.3,
    "config": {"rate": 4e-3},
}
SHAPES: dict[str, dict[str, Any]] = {
    "decoupled-50x20": {**DECOUPLED, "sequences": 50, "length": 20},
    "decoupled-20x20": {**DECOUPLED, "sequences": 20, "length": 20},
    "coupled-50x20": {**COUPLED, "sequences": 50, "length": 20},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-varied": {"shuffled": True, "rate_spread": 1.5},
    "-places4k": {"lesson_places": 4096},
    "-parallel4": {"parallel": 4},
    "-teacher1": {"teacher_share": 1.0},
    "-rate2": {"rate": 2e-3},
}
STUDENT = {"dim": 32, "blocks": 1, "heads": 1, "length": 50, "dropout": 0.0}
FULL_SEEDS, STUDENT_SEEDS, OUTER_SEEDS = (0, 1, 2), (100, 101, 102, 103), (0, 1, 2)
METRICS = ("ndcg@10", "hr@10", "hr@100")


def main() -> int:
    names = [f"{shape}{variant}-s{seed}" for shape in SHAPES for variant in VARIANTS for seed in OUTER_SEEDS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the prepared Dataset")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", action="append", choices=names, help="repeatable; default: those without variants")
    parser.add_argument("--steps", type=int, default=600, help="outer steps")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    bench = Bench(options.data, options.output)
    bench.full()
    for name in options.run or [f"{shape}-s{seed}" for seed in OUTER_SEEDS for shape in SHAPES]:
        bench.run(name, options.steps)
    print(json.dumps(bench.report, indent=2))
    return 0


class Bench:
    """The data, the results so far, and what makes more of them."""

    def __init__(self, data: str, folder: Path) -> None:
        import torch

        from distill_at_scale.data.dataset import Dataset
        from distill_at_scale.distillation.students import create_student

        torch.set_num_threads(1)
        dataset = Dataset.open(data)
        self.train, self.validation = dataset.interactions("train"), dataset.interactions("validation")
        self.test, self.histories = dataset.interactions("test"), dataset.interactions("train", "validation")
        self.student = create_student("sasrec", dataset.n_items, STUDENT)
        self.folder, self.file = folder, folder / "results.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.report: dict[str, Any] = {"full": {}, "runs": {}}
        if self.file.is_file():
            self.report = json.loads(self.file.read_text())

    def full(self) -> None:
        """Trains the full-data models."""
        for seed in FULL_SEEDS:
            if str(seed) not in self.report["full"]:
                self.report["full"][str(seed)] = self.train_full(seed)
                self.write()

    def run(self, name: str, steps: int) -> None:
        """One distillation, from its checkpoint on."""
        import safetensors.torch

        from distill_at_scale.distillation.farzi import Farzi, FarziConfig, Lessons, Teacher, start_from_teachers

        if name in self.report["runs"]:
            return
        stem, seed = name.rsplit("-s", 1)
        shape = next(shape for shape in SHAPES if stem.startswith(shape))
        made, changed = SHAPES[shape], VARIANTS[stem.removeprefix(shape)]
        teachers = [Teacher(self.student, safetensors.torch.load_file(self.teacher_file(k))) for k in FULL_SEEDS]
        start = start_from_teachers(
            teachers,
            self.train,
            made["sequences"],
            made["length"],
            made["width"],
            coupled=made["coupled"],
            sharpness=made["sharpness"],
            foresight=made["foresight"],
            popularity=made["popularity"],
            seed=int(seed),
        )
        config = FarziConfig(steps=steps, seed=int(seed), **{**made["config"], **changed})
        lessons = Lessons(self.train, STUDENT["length"], config.least_context, config.seed)
        farzi = Farzi(config, self.student, start, lessons, teachers, self.validated)
        checkpoint = self.folder / f"{name}.checkpoint"
        spent = 0.0
        if checkpoint.is_file():
            spent = json.loads(checkpoint.with_suffix(".json").read_text())
            farzi.restore(checkpoint.read_bytes())
        clock = time.process_time()

        def keep() -> None:
            if farzi.step % config.validate_every == 0:
                checkpoint.write_bytes(farzi.state())
                checkpoint.with_suffix(".json").write_text(json.dumps(spent + time.process_time() - clock))
                print(name, farzi.points[-1], round(farzi.loss, 4), round(time.process_time() - clock, 1), flush=True)

        best = farzi.run(keep)
        cost = spent + time.process_time() - clock
        named = {str(k): tensor.contiguous() for k, tensor in enumerate(best.tensors)}
        safetensors.torch.save_file(named, self.folder / f"{name}.safetensors")
        self.report["runs"][name] = {
            "settings": {**{k: v for k, v in made.items() if k != "config"}, **config.model_dump()},
            "cpu_seconds": round(cost, 1),
            "numbers": best.n_numbers,
            "validation": farzi.points,
            "start": self.judged(start),
            "distilled": self.judged(best),
            "distilled, random order, twice the steps": self.judged(best, shuffled=True, twice=True),
        }
        self.write()
        print(
            name, json.dumps({k: v for k, v in self.report["runs"][name].items() if k not in ("settings",)}), flush=True
        )

    def judged(self, latent: Any, shuffled: bool = False, twice: bool = False) -> dict[str, Any]:
        """Metrics of four students trained on the sequences, and the share of the full data's test ndcg@10."""
        from distill_at_scale.distillation.farzi import Curriculum, FarziConfig, train_student

        defaults, found = FarziConfig(), []
        for seed in STUDENT_SEEDS:
            curriculum = Curriculum(defaults.batch, defaults.student_rate, shuffled, seed)
            trained = train_student(self.student, latent, curriculum, defaults.horizon * (1 + twice), seed)
            found.append({"validation": self.validated(trained), **self.measured(trained, self.histories, self.test)})
        full = np.mean([entry["ndcg@10"] for entry in self.report["full"].values()])
        values = {key: [entry[key] for entry in found] for key in found[0]}
        means = {key: round(float(np.mean(value)), 4) for key, value in values.items()}
        spread = round(float(np.std(values["ndcg@10"], ddof=1)), 4)
        return {**means, "spread of ndcg@10": spread, "share": round(float(np.mean(values["ndcg@10"]) / full), 4)}

    def validated(self, parameters: dict) -> float:
        return self.measured(parameters, self.train, self.validation)["ndcg@10"]

    def measured(self, parameters: dict, histories: Any, heldout: Any) -> dict[str, float]:
        from distill_at_scale.evaluation import RankingEvaluator

        evaluator = RankingEvaluator(np.ones(self.train.n_items), (10, 100), n_negatives=0)
        evaluator.add_all(lambda rows: self.student.item_scores(parameters, rows), histories, heldout)
        metrics = evaluator.result().metrics
        return {key: round(metrics[key], 6) for key in METRICS}

    def train_full(self, seed: int) -> dict[str, Any]:
        """Random windows of all train rows, every place a target; the best of the validations."""
        import safetensors.torch
        import torch
        import torch.nn.functional as F

        from distill_at_scale.distillation.students import create_student

        student = create_student("sasrec", self.train.n_items, {**STUDENT, "dropout": 0.2})
        parameters = {name: value.requires_grad_() for name, value in student.draw(seed).items()}
        optimizer = torch.optim.Adam(parameters.values(), lr=3e-3, fused=True)
        counts, length = self.train.counts, STUDENT["length"]
        clock, best, chosen, step = time.process_time(), 0.0, 0, 0
        while step - chosen < 240:
            rng = np.random.default_rng([seed, step])
            users = rng.choice(len(counts), size=64, p=counts / counts.sum())
            ends = np.minimum(rng.integers(2, counts[users] + length), counts[users])
            starts = np.maximum(ends - length - 1, 0)
            places = ends[:, None] + np.arange(-int((ends - starts).max()), 0)
            first = self.train.offsets[users][:, None]
            padded = np.where(
                places >= starts[:, None], self.train.items[first + np.maximum(places, 0)], student.n_items
            )
            items = torch.from_numpy(padded.astype(np.int64))
            torch.manual_seed(seed * 1_000_003 + step)
            states, real = student.states(parameters, items[:, :-1], training=True), items[:, :-1] < student.n_items
            loss = F.cross_entropy(states[real] @ student.table(parameters).T, items[:, 1:][real])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 40 == 0:
                found = self.validated(parameters)
                if found > best:
                    best, chosen = found, step
                    kept = {name: value.detach().clone() for name, value in parameters.items()}
                print("full", seed, step, round(found, 4), round(time.process_time() - clock, 1), flush=True)
        cost = round(time.process_time() - clock, 1)
        safetensors.torch.save_file(kept, self.teacher_file(seed))
        return {
            "validation": best,
            "steps": chosen,
            "cpu_seconds": cost,
            **self.measured(kept, self.histories, self.test),
        }

    def teacher_file(self, seed: int) -> Path:
        return self.folder / f"full-{seed}.safetensors"

    def write(self) -> None:
        self.file.write_text(json.dumps(self.report, indent=2))


if __name__ == "__main__":
    sys.exit(main())
