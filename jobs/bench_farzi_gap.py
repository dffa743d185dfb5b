"""What Farzi's outer steps can gain: the outer loss of the start, of the sequences after the steps, and of its goal.

    python jobs/bench_farzi_gap.py --data ml-100k --output FOLDER --run consensus-20x50-s0

FOLDER is that of bench_farzi.py, after the run; its teachers and its last checkpoint are read. The outer loss is
(1 − share) · −log p(answer) + share · KL(teachers ‖ student). Both parts are measured over outer batches that no
distillation draws, of train rows (`train`), and so are the negative log-likelihood of the validation rows, the mean
over users (`validation`), and ndcg@10, for

- each teacher, the mean of the teachers' distributions (whose KL is 0: the goal), and their consensus, of which the
  start is made;
- two students each trained on the start, on the average of the sequences over the outer steps (at the checkpoint), and
  on the best step, which is the result.

Results go into FOLDER/gap.json; those that are there are skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
BATCHES, STUDENTS = 24, (200, 201)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the prepared Dataset")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", action="append", required=True, help="of bench_farzi.py; repeatable")
    options = parser.parse_args()
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "jobs")]
    from bench_farzi import Bench, recipe_of

    file = options.output / "gap.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in options.run:
        if name not in results:
            config = recipe_of(name)
            results[name] = gap(Bench(options.data, options.output, config), name, config)
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(name, json.dumps(results[name], indent=1), flush=True)
    return 0


def gap(bench: Any, name: str, config: Any) -> dict[str, Any]:
    """Measures one run's start, result, average and goal."""
    from distill_at_scale.distillation.farzi import (
        Farzi,
        InnerLoop,
        OuterBatches,
        initial_sequences,
        initial_teachers,
        outer_loss,
        train_student,
    )

    teachers, student = bench.teachers(), bench.student
    of_start = initial_teachers(config, teachers, bench.train, bench.validated)
    start = initial_sequences(config, of_start, bench.train)
    drawn = OuterBatches(bench.train, student.length, config.least_context, 10_000 + config.seed)
    batches = [drawn.draw(config.lesson_users, config.lesson_places, k, 0) for k in range(BATCHES)]

    def measured(*models: Any) -> dict[str, float]:
        parts = {}
        if len(models) == 1:
            for part, share in (("train, KL from the teachers", 1.0), ("train, answers", 0.0)):
                losses = [float(outer_loss(student, models[0], batch, teachers, share).detach()) for batch in batches]
                parts[part] = round(float(np.mean(losses)), 4)
        return parts | judged(bench, models)

    def taught(latent: Any) -> dict[str, float]:
        found = []
        for seed in STUDENTS:
            inner_loop = InnerLoop(config.batch, config.student_rate, config.shuffled, seed)
            found.append(measured(train_student(student, latent, inner_loop, config.horizon, seed)))
        return {key: round(float(np.mean([one[key] for one in found])), 4) for key in found[0]}

    farzi = Farzi(
        config,
        student,
        start,
        OuterBatches(bench.train, student.length, config.least_context, config.seed),
        teachers,
        bench.validated,
    )
    farzi.restore((bench.folder / f"{name}.checkpoint").read_bytes())
    best = farzi.run()
    ones = [measured(one.parameters) for one in teachers]
    return {
        "a teacher (mean)": {key: round(float(np.mean([one[key] for one in ones])), 4) for key in ones[0]},
        "mean of the teachers": measured(*(one.parameters for one in teachers)),
        "their consensus": measured(of_start[0].parameters),
        "start": taught(start),
        f"after {farzi.step} steps": taught(farzi.averaged),
        "best step": taught(best),
        "validations of the run": farzi.points,
    }


def judged(bench: Any, models: tuple[Any, ...]) -> dict[str, float]:
    """Validation and test figures of the mean of the models' distributions."""
    import torch

    from distill_at_scale.distillation.attribution.training import heldout_loss
    from distill_at_scale.evaluation import RankingEvaluator

    def score(rows: Any) -> np.ndarray:
        each = [torch.from_numpy(bench.student.item_scores(one, rows)).softmax(1) for one in models]
        return torch.stack(each).mean(0).clamp_min(1e-30).log().numpy()

    found = {}
    likelihood = heldout_loss(torch.from_numpy(score(bench.train)), bench.train, bench.validation)
    found["validation, answers"] = round(float(likelihood) / len(bench.train), 4)
    for split, histories, heldout in (
        ("validation", bench.train, bench.validation),
        ("test", bench.histories, bench.test),
    ):
        evaluator = RankingEvaluator(np.ones(bench.train.n_items), (10,), n_negatives=0)
        evaluator.add_all(score, histories, heldout)
        found[f"{split}, ndcg@10"] = round(evaluator.result().metrics["ndcg@10"], 4)
    return found


if __name__ == "__main__":
    sys.exit(main())
