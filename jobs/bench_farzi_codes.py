"""Cost and memory of Farzi over codes by the size of the catalogue: one process per size, random logs of the same rows.

    python jobs/bench_farzi_codes.py --output jobs/results/farzi-codes.json

Each process trains the teacher for one epoch, which begins with the codes (residual k-means of the items' singular
vectors), initialises 50 x 20 sequences, takes outer steps (windows of 10 student steps and the outer loss), validates
the students on 200 users against all items, and stores the sequences. CPU-seconds are those of its single thread;
memory is the resident peak of the process.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
N_USERS, ROWS, VALIDATED = 3_200, 25, 200
SETTINGS: dict[str, Any] = {
    "items": "codes",
    "sampled": 1000,
    "sequences": 50,
    "length": 20,
    "steps": 20,
    "horizon": 40,
    "validate_every": 1000,
    "validation_students": 1,
    "least_context": 2,
    "bits": 3,
    "model": {"dim": 64, "blocks": 2},
    "teacher": {"epochs": 1, "batch_size": 128, "dropout": 0.5, "learning_rate": 1e-3},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--size", type=int, help="measure this one here and print it")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    if options.size:
        print(json.dumps(measured(options.size)))
        return 0
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.is_file() else {}
    report |= {
        "command": "python jobs/bench_farzi_codes.py --output jobs/results/farzi-codes.json",
        "machine": f"{platform.machine()}, busy with other work",
        "date": time.strftime("%Y-%m-%d"),
        "rows": N_USERS * ROWS,
        "settings": SETTINGS,
    }
    sizes = report.setdefault("items", {})
    for n_items in options.items:
        if str(n_items) not in sizes:
            command = [sys.executable, __file__, "--output", "-", "--size", str(n_items)]
            sizes[str(n_items)] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            options.output.write_text(json.dumps(report, indent=2) + "\n")
            print(n_items, sizes[str(n_items)], flush=True)
    return 0


def measured(n_items: int) -> dict[str, float]:
    """Runs one distillation; returns its CPU-seconds by part, its memory and its bytes."""
    import numpy as np
    import torch

    from distill_at_scale.data.interactions import Interactions
    from distill_at_scale.distillation.farzi import (
        Farzi,
        FarziConfig,
        OuterBatches,
        Teacher,
        initial_sequences,
        quantise,
        teacher_model,
    )
    from distill_at_scale.distillation.farzi.books_memory import books_numbers
    from distill_at_scale.distillation.students import Parameters, create_student
    from distill_at_scale.evaluation import RankingEvaluator
    from distill_at_scale.models import find_model
    from distill_at_scale.models.training.sources import MemorySource
    from distill_at_scale.models.training.trainer import Trainer

    torch.set_num_threads(1)
    config = FarziConfig.model_validate(SETTINGS)
    rng = np.random.default_rng(0)
    # Some items are frequent, most are not; every size has the same rows.
    items = (n_items * rng.random(N_USERS * ROWS) ** 3).astype(np.int32)
    offsets = np.arange(N_USERS + 1, dtype=np.int64) * ROWS
    rows = Interactions(np.arange(N_USERS, dtype=np.int64), offsets, items, n_items)
    before, clock = _peak(), time.process_time()
    found: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        found[f"{name}, CPU-s"] = round(time.process_time() - clock, 2)
        clock = time.process_time()

    settings = config.teacher_settings()
    trainer = Trainer(teacher_model("sasrec", settings), MemorySource(rows, None), torch.device("cpu"))
    lap("codes")
    trainer.run()
    lap("an epoch of the teacher")
    state = {name: value.detach() for name, value in trainer.module.state_dict().items() if value.numel()}
    student = create_student("sasrec", n_items, settings, state.pop("items.codes"))
    teacher = Teacher(student, {name: value for name, value in state.items() if name in student.draw(0)})
    del trainer
    lap("loading")
    start = initial_sequences(config, [teacher], rows)
    lap("initialisation")
    some = rows.take(np.arange(VALIDATED))

    def validate(parameters: Parameters) -> float:
        evaluator = RankingEvaluator(np.ones(n_items), (10,), n_negatives=0)
        evaluator.add_all(lambda histories: student.item_scores(parameters, histories), some, some)
        return evaluator.result().metrics["ndcg@10"]

    batches = OuterBatches(rows, student.length, config.least_context, config.seed, config.sampled)
    farzi = Farzi(config, student, start, batches, [teacher], validate)
    farzi._validate_mean()
    lap("validation of a student, after 40 steps of it")
    farzi._learn()
    lap("first outer step, with those before its window")
    laps = []
    for _ in range(config.steps - 1):
        farzi._learn()
        laps.append(time.process_time() - clock)
        clock = time.process_time()
    # The pool has five students, which first take the steps before their windows.
    found["outer step, CPU-s, median"] = round(float(np.median(laps[config.pool :])), 3)
    found["bytes"] = len(quantise(farzi.averaged))
    lap("storing")
    c = find_model("sasrec").parse_config(settings)
    per_pool = config.pool * 3 * sum(value.numel() for value in student.draw(0).values())
    in_window = min(config.window * config.batch, config.sequences) * config.length
    numbers = books_numbers(student, config, in_window, n_tokens=config.n_tokens, pools=5 * per_pool)
    taught = find_model("sasrec").memory_needed(N_USERS, n_items, rows.n_rows, c)
    found["peak GiB"] = round(_peak() / 2**30, 2)
    found["peak GiB above the libraries"] = round((_peak() - before) / 2**30, 2)
    found["announced GiB"] = round(max(4 * numbers, taught) / 2**30, 2)
    return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
