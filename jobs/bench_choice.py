"""Quality of the choice of a method by a sweep of the dataset itself, an upper bound for predictions without a sweep.

    python jobs/bench_choice.py --trials META/trials.parquet

For every task (a dataset and budget), one seed's trials choose a method, and each other seed's trials evaluate the
choice as in Data-Genie: P@1, how often the best method is chosen, and regret, the best value minus the chosen method's.
Only methods that all models can learn from count.
"""

from __future__ import annotations

import argparse
import json
from itertools import permutations

import numpy as np
import polars as pl

from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.model import bounded
from distill_at_scale.genie.regressors import regrets

TASK = ("fingerprint", "budget")
TARGETS = ("tau", "kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", required=True, help="trials.parquet of a meta-dataset or sweep of two seeds or more"
    )
    options = parser.parse_args()
    trials = pl.read_parquet(options.trials)
    seeds = sorted(trials["seed"].unique())
    if len(seeds) < 2:
        parser.error(f"{options.trials} has one seed only; sweep with --seeds 2 or more.")
    of_seed = {seed: bounded(cells(trials.filter(seed=seed))) for seed in seeds}
    print(json.dumps({target: judged(of_seed, target) for target in TARGETS}, indent=1))


def judged(of_seed: dict[int, pl.DataFrame], target: str) -> dict[str, float]:
    """Means over all ordered pairs of seeds and their tasks."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for by, on in permutations(of_seed, 2):
        whole = pl.col("n_models") == pl.col("n_models").max()
        choices = of_seed[by].filter(whole).select(*TASK, "method", chosen=target)
        both = of_seed[on].filter(whole).join(choices, on=[*TASK, "method"]).drop_nulls(["chosen", target])
        task = both.select(pl.struct(TASK).rank("dense")).to_series().to_numpy()
        y = both[target].to_numpy()
        mean = np.bincount(task, y) / np.maximum(np.bincount(task), 1)
        best = np.array([y[task == number].max() - mean[number] for number in np.unique(task)])
        found.append((regrets(task, y, both["chosen"].to_numpy()), best))
    own, random = (np.concatenate(parts) for parts in zip(*found))
    return {
        "tasks": len(own),
        "P@1": round(float((own <= 1e-9).mean()), 3),
        "regret": round(float(own.mean()), 4),
        "regret of any method": round(float(random.mean()), 4),
    }


if __name__ == "__main__":
    main()
