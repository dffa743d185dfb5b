"""Cost of ranking all items of a large catalogue by blocks of items, and by whole rows of scores.

    python jobs/bench_evaluate_blocks.py --output jobs/results/evaluate-blocks.json

Users and items have random vectors of 64 numbers; each user has 20 rows of history and one held-out row. Every case
runs in a process of its own, with one thread, and evaluates all figures of `evaluate`: CPU-seconds, and the peak of its
memory above what it took before the first batch (vectors and rows). Both ways must find the same metrics.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DIM, ROWS = 64, 20
# Items, users, by blocks.
CASES = ((10**6, 512, False), (10**6, 512, True), (10**6, 10_000, True), (10**7, 256, True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = []
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(measured, case))
        print(found[-1], flush=True)
    whole, blocks = found[:2]
    if whole["metrics"] != blocks["metrics"]:
        print("the two ways differ", file=sys.stderr)
        return 1
    content = {
        "command": f"python jobs/bench_evaluate_blocks.py --output {options.output}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, 1 thread",
        "date": time.strftime("%Y-%m-%d"),
        "dim": DIM,
        "cases": found,
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def measured(n_items: int, n_users: int, by_blocks: bool) -> dict[str, Any]:
    """Runs one case in this process."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path.insert(0, str(REPOSITORY))
    import numpy as np

    from distill_at_scale.data.interactions import Interactions
    from distill_at_scale.evaluation import RankingEvaluator, inverse_propensities
    from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores, ranking_memory
    from distill_at_scale.evaluation.slices import SliceSums, popularity_slices

    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (n_users, n_items))

    def rows(of_each: int) -> Interactions:
        offsets = np.arange(n_users + 1, dtype=np.int64) * of_each
        return Interactions(
            np.arange(n_users), offsets, rng.integers(0, n_items, offsets[-1]).astype(np.int32), n_items
        )

    def begin(some: Interactions) -> BlockScores:
        vectors = users[some.users]
        return lambda first, last: vectors @ items[first:last].T

    histories, heldout = rows(ROWS), rows(1)
    items[heldout.items] = 0.5 * users  # so that some are hits
    counts = histories.item_counts()
    scorer = BlockScorer(begin) if by_blocks else BlockScorer.whole(lambda some: users[some.users] @ items.T)
    before, clock, cpu = _peak_mib(), time.perf_counter(), time.process_time()
    evaluator = RankingEvaluator(
        inverse_propensities(counts, histories.n_rows), slices=SliceSums(popularity_slices(counts))
    )
    evaluator.add_all(scorer, histories, heldout)
    cpu_s = time.process_time() - cpu
    return {
        "items": n_items,
        "users": n_users,
        "by_blocks": by_blocks,
        "cpu_s": round(cpu_s, 2),
        "ms_per_user": round(1000 * cpu_s / n_users, 2),
        "wall_s": round(time.perf_counter() - clock, 2),
        "more_memory_mib": round(_peak_mib() - before),
        "announced_mib": round(ranking_memory(n_items, by_blocks) / 2**20),
        "metrics": {name: round(value, 12) for name, value in evaluator.result().metrics.items()},
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
