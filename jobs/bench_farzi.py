"""Distils a log by Farzi and measures the share of full-data quality that is kept; writes one JSON file.

    das prepare --input ml-100k.inter --min-user 5 --min-item 5 --split leave_2 --shards 1 --output ml-100k
    python jobs/bench_farzi.py --data ml-100k --output FOLDER                        every run on MovieLens-100K
    python jobs/bench_farzi.py --data ml-100k --output FOLDER --run consensus-50x50-s0

    das prepare --input amazon-beauty-5core.txt --split leave_2 --shards 1 --output beauty
    python jobs/bench_farzi.py --data beauty --output OTHER-FOLDER --run beauty-200x20-s0

The full-data quality (100 %) is that of SASRec, trained on random windows of all train rows until validation ndcg@10
falls: the mean over its seeds, which are also the teachers. MovieLens has three seeds of 1 layer and width 32. Beauty,
Amazon's 5-core log, has one seed of the default model (2 layers, width 64, dropout 0.5). A run initialises latent
sequences from the teachers, distils, and trains four students each on the initial, the learned, and the stored
sequences (8 bits per number), for as many Adam steps as the sequences were learned for, and for twice as many with the
sequences in random order. All choices are made on validation; each run is tested once, with train and validation rows
as histories. FOLDER gets the teachers, checkpoints and results.json. Finished runs are skipped, and a killed run
resumes.
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
SHAPES: dict[str, dict[str, Any]] = {
    **{f"consensus-{n}x50": {"sequences": n, "length": 50} for n in (50, 20, 10, 100, 200)},
    "coupled-50x50": {"sequences": 50, "length": 50, "coupled": True},
    "beauty-200x20": {
        "sequences": 200,
        "length": 20,
        "model": {"dim": 64, "blocks": 2},
        # The same settings as of the model on a log.
        "teacher": {"dropout": 0.5, "learning_rate": 1e-3, "batch_size": 128, "patience": 10},
        # One teacher only: training it is most of the cost of a distillation.
        "teachers": 1,
        "consensus": 0,
        # Of the start on validation, one student of 800 steps: .067 at this rate, .064 at it with whole long sequences
        # in place of joined ones; of 400 steps at .02, .062.
        "student_rate": 5e-3,
        "horizon": 800,
        "validation_students": 2,
        # A user of that log has seven train rows on average.
        "least_context": 2,
    },
}
# The same in a quarter of the log's bytes.
SHAPES["beauty-narrow-200x20"] = {
    **SHAPES["beauty-200x20"],
    "model": {"dim": 32, "blocks": 2},
    "inputs": "items",
    "width": 20,
    "bits": 2.8,
    "fitted": 30,
}
BY_DEFAULT = ("consensus-50x50", "consensus-20x50", "coupled-50x50")
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-pretrained": {"pretrained": 0.5},
    "-rates": {"learned_rates": 8},
    "-growing": {"first_horizon": 100},
    "-aligned": {"alignment": 0.3},
    "-mixed": {"mixed": True},
    # As many outer steps as take the time of 100 unrolled ones; on ml-100k a step takes .65, .21 and .32 CPU-seconds.
    "-states": {"objective": "states", "steps": 300, "validate_every": 300},
    "-slow-states": {"objective": "states", "steps": 300, "validate_every": 50, "rate": 2e-4},
    "-gradients": {"objective": "gradients", "steps": 200, "validate_every": 200},
    "-often-gradients": {"objective": "gradients", "steps": 200, "validate_every": 50},
}
STUDENT_SEEDS, OUTER_SEEDS = (100, 101, 102, 103), (0, 1, 2, 3)
METRICS = ("ndcg@10", "hr@10", "hr@100")


def main() -> int:
    names = [f"{shape}{variant}-s{seed}" for shape in SHAPES for variant in VARIANTS for seed in OUTER_SEEDS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the prepared Dataset")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--run",
        action="append",
        choices=names,
        metavar="RUN",
        help=f"repeatable, of one log: a shape ({', '.join(SHAPES)}), a variant or none ({', '.join(VARIANTS)[2:]}) "
        "and an outer seed, such as consensus-20x50-gradients-s1; default: MovieLens' first three shapes",
    )
    parser.add_argument("--steps", type=int, help="outer steps; default: 100, or those of the variant")
    parser.add_argument("--untested", action="store_true", help="end with validation, and leave test unseen")
    parser.add_argument("--stored", action="store_true", help="test the start and what is stored, and nothing else")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    ours = [f"{shape}-s{seed}" for seed in OUTER_SEEDS for shape in BY_DEFAULT]
    bench: Bench | None = None
    for name in options.run or ours:
        config = recipe_of(name, options.steps)
        bench = bench or Bench(options.data, options.output, config)
        bench.run(name, config, tested=not options.untested, stored_only=options.stored)
    assert bench is not None
    print(json.dumps(bench.report, indent=2))
    return 0


def recipe_of(name: str, steps: int | None = None) -> Any:
    """The settings of a run."""
    from distill_at_scale.distillation.farzi import FarziConfig

    stem, seed = name.rsplit("-s", 1)
    shape = shape_of(name)
    settings = {"steps": 100, **SHAPES[shape], **VARIANTS[stem.removeprefix(shape)], "seed": int(seed)}
    if steps is not None:
        settings["steps"] = steps
    return FarziConfig.model_validate(settings)


def shape_of(name: str) -> str:
    """The shape of a run, without its variant and seed."""
    return next(shape for shape in SHAPES if name.startswith(shape))


class Bench:
    """Runs distillations, and keeps the data, the full-data models of a recipe and the results so far."""

    def __init__(self, data: str, folder: Path, config: Any) -> None:
        import torch

        from distill_at_scale.data.dataset import Dataset
        from distill_at_scale.distillation.students import create_student

        torch.set_num_threads(1)
        dataset = Dataset.open(data)
        self.train, self.validation = dataset.interactions("train"), dataset.interactions("validation")
        self.test, self.histories = dataset.interactions("test"), dataset.interactions("train", "validation")
        self.config = config
        self.student = create_student("sasrec", dataset.n_items, self.config.student_settings())
        self.folder, self.file = folder, folder / "results.json"
        folder.mkdir(parents=True, exist_ok=True)
        log = sum(shard.data.bytes for shard in dataset.shards)
        self.report: dict[str, Any] = {"bytes of the log's shards": log, "full": {}, "runs": {}}
        if self.file.is_file():
            self.report = json.loads(self.file.read_text())
        for seed in range(config.teachers):
            if str(seed) not in self.report["full"]:
                self.report["full"][str(seed)] = self.train_full(seed)
                self.write()

    def run(self, name: str, config: Any, tested: bool = True, stored_only: bool = False) -> None:
        """Distils once, resuming from the checkpoint.

        The start does not depend on the objective: what the unrolled run of the same shape and seed measured of it is
        taken over.
        """
        import torch

        from distill_at_scale.distillation.farzi import (
            Farzi,
            OuterBatches,
            dequantise,
            initial_sequences,
            initial_teachers,
            quantise,
        )

        if name in self.report["runs"]:
            return
        teachers, clock = self.teachers(), time.process_time()
        start = initial_sequences(config, initial_teachers(config, teachers, self.train, self.validated), self.train)
        outer_batches = OuterBatches(self.train, self.student.length, config.least_context, config.seed)
        pretrained = self.pretrained() if config.pretrained else []
        farzi = Farzi(config, self.student, start, outer_batches, teachers, self.validated, pretrained=pretrained)
        checkpoint = self.folder / f"{name}.checkpoint"
        plain = self.with_same_start(name, config)
        if checkpoint.is_file():
            farzi.restore(checkpoint.read_bytes())
        elif plain is not None:
            farzi.points = [(0, plain["validation"][0][1])]

        def keep() -> None:
            if farzi.step % 50 == 0 or farzi.step == config.steps:
                checkpoint.write_bytes(farzi.state())
                print(name, farzi.points[-1], round(farzi.loss, 4), round(farzi.cpu_s, 1), flush=True)

        spent = time.process_time() - clock
        best = farzi.run(keep)
        cost = spent + farzi.cpu_s
        packed = quantise(best)
        (self.folder / f"{name}.safetensors.zst").write_bytes(packed)
        self.report["runs"][name] = {
            "settings": config.model_dump(mode="json"),
            "cpu_seconds": round(cost, 1),
            "numbers": best.n_numbers,
            "bytes": len(packed),
            "bytes, of the log's": round(len(packed) / self.report["bytes of the log's shards"], 3),
            "validation": farzi.points,
        }
        if tested:
            started = self.judged(config, start) if plain is None else plain["start"]
            # Students are seeded: the same sequences give the same student.
            same = all(torch.equal(a, b) for a, b in zip(start.tensors, best.tensors))
            self.report["runs"][name] |= {"start": started, "stored": self.judged(config, dequantise(packed))}
            if not stored_only:
                self.report["runs"][name] |= {
                    "learned": started if same else self.judged(config, best),
                    "stored, random order, twice the steps": self.judged(config, dequantise(packed), twice=True),
                }
        self.write()
        shown = {key: value for key, value in self.report["runs"][name].items() if key != "settings"}
        print(name, json.dumps(shown), flush=True)

    def with_same_start(self, name: str, config: Any) -> dict[str, Any] | None:
        """Returns the tested run of the same shape and seed by the unrolled objective; None for such a run itself."""
        if config.objective == "unrolled":
            return None
        plain = self.report["runs"].get(f"{shape_of(name)}-s{config.seed}")
        return plain if plain is not None and "start" in plain else None

    def judged(self, config: Any, latent: Any, twice: bool = False) -> dict[str, Any]:
        """Metrics of four students trained on the sequences, and the share of the full data's test ndcg@10."""
        from distill_at_scale.distillation.farzi import InnerLoop, train_student

        found = []
        for seed in STUDENT_SEEDS:
            inner_loop = InnerLoop(config.batch, config.student_rate, config.shuffled or twice, seed)
            clock = time.process_time()
            trained = train_student(self.student, latent, inner_loop, config.horizon * (1 + twice), seed)
            clock = round(time.process_time() - clock, 1)
            measured = self.measured(trained, self.histories, self.test)
            found.append({"cpu_seconds": clock, "validation": self.validated(trained), **measured})
        full = np.mean([entry["ndcg@10"] for entry in self.report["full"].values()])
        values = {key: [entry[key] for entry in found] for key in found[0]}
        means = {key: round(float(np.mean(value)), 4) for key, value in values.items()}
        spread = round(float(np.std(values["ndcg@10"], ddof=1)), 4)
        return {**means, "spread of ndcg@10": spread, "share": round(float(np.mean(values["ndcg@10"]) / full), 4)}

    def validated(self, parameters: dict) -> float:
        """ndcg@10 of validation rows, of as many users as the recipe says."""
        users = np.random.default_rng(0).permutation(len(self.train))[: self.config.validation_users]
        users.sort()
        return self.measured(parameters, self.train.take(users), self.validation.take(users))["ndcg@10"]

    def measured(self, parameters: dict, histories: Any, heldout: Any) -> dict[str, float]:
        from distill_at_scale.evaluation import RankingEvaluator

        evaluator = RankingEvaluator(np.ones(self.train.n_items), (10, 100), n_negatives=0)
        evaluator.add_all(lambda rows: self.student.item_scores(parameters, rows), histories, heldout)
        metrics = evaluator.result().metrics
        return {key: round(metrics[key], 6) for key in METRICS}

    def train_full(self, seed: int) -> dict[str, Any]:
        """Trains a model on all train rows; returns the best epoch on validation."""
        clock = time.process_time()
        trainer = self.taught(seed)
        cost = round(time.process_time() - clock, 1)
        learned = dict(trainer.module.named_parameters())
        self.keep(learned, self.teacher_file(seed))
        selection = trainer.selection()
        assert selection is not None
        return {
            "validation": max(point.metric for point in selection.points),
            "epochs": selection.chosen,
            "steps": int(selection.chosen) * trainer.steps_per_epoch,
            "cpu_seconds": cost,
            **self.measured(learned, self.histories, self.test),
        }

    def taught(self, seed: int) -> Any:
        """Trains a full-data model and keeps its earlier states."""
        import torch

        from distill_at_scale.distillation.farzi import is_snapshot_epoch, teacher_model
        from distill_at_scale.models.training.sources import MemorySource
        from distill_at_scale.models.training.trainer import Trainer

        model = teacher_model("sasrec", {**self.config.teacher_settings(), "seed": seed, "device": "cpu"})
        trainer = Trainer(model, MemorySource(self.train, self.validation), torch.device("cpu"))

        def after_step() -> None:
            if trainer.step == 0:
                print("full", seed, trainer.epoch, round(trainer.points[-1].metric, 4), flush=True)
                if is_snapshot_epoch(trainer.epoch):
                    self.keep(dict(trainer.module.named_parameters()), self.teacher_file(seed, trainer.epoch))

        trainer.run(lambda share, what: None, after_step)
        return trainer

    def pretrained(self) -> list[dict]:
        """Returns the earlier states of the full-data models."""
        import safetensors.torch

        found = []
        for seed in range(self.config.teachers):
            if not self.teacher_file(seed, 1).is_file():
                self.taught(seed)
            found += sorted(self.folder.glob(f"full-{seed}-*.safetensors"))
        return [safetensors.torch.load_file(file) for file in found]

    @staticmethod
    def keep(parameters: dict, file: Path) -> None:
        import safetensors.torch

        safetensors.torch.save_file({name: value.detach().contiguous() for name, value in parameters.items()}, file)

    def teachers(self) -> list[Any]:
        import safetensors.torch

        from distill_at_scale.distillation.farzi import Teacher

        return [
            Teacher(self.student, safetensors.torch.load_file(self.teacher_file(seed)))
            for seed in range(self.config.teachers)
        ]

    def teacher_file(self, seed: int, epoch: int | None = None) -> Path:
        return self.folder / (f"full-{seed}.safetensors" if epoch is None else f"full-{seed}-{epoch}.safetensors")

    def write(self) -> None:
        self.file.write_text(json.dumps(self.report, indent=2))


if __name__ == "__main__":
    sys.exit(main())
