"""Coverage of the 90 % intervals of a sweep, by a simulation of users and seeds.

    python jobs/bench_intervals.py --output intervals.json     two minutes on one core

A cell has k seeds. Seed j keeps 0.9 + its own deviation (standard deviation σ_s) + a deviation of the users drawn,
common to all seeds (standard deviation σ_u of their mean). For each ratio σ_u : σ_s and k, 10,000 cells are drawn with
60 users each, and four intervals of each are compared with the truth: those of the report (`mean`) and of a new sample
(`new`), Student's with k - 1 degrees of freedom without the users' part (`plain t`), and quantiles over resamples of
users and seeds, as in earlier reports (`resampled`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from distill_at_scale.evaluation.bootstrap import N_RESAMPLES, resample_weights
from distill_at_scale.evaluation.intervals import spread

USERS, KEPT, SEED_SD = 60, 0.9, 0.05
SEEDS = (2, 3, 5, 10)
PROPORTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=10_000)
    options = parser.parse_args()
    weights = [resample_weights(np.arange(USERS), N_RESAMPLES, seed).astype(np.float64) for seed in range(100)]
    coverage = [
        {"seeds": k, "sigma_u / sigma_s": proportion, **_coverage(k, proportion, options.cells, weights)}
        for k in SEEDS
        for proportion in PROPORTIONS
    ]
    content = {"nominal": 0.9, "cells": options.cells, "users": USERS, "coverage": coverage}
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    for row in coverage:
        print(" ".join(f"{name} {value:g}" for name, value in row.items()))


def _coverage(k: int, proportion: float, cells: int, weights: list[np.ndarray]) -> dict[str, float]:
    rng = np.random.default_rng([k, round(100 * proportion)])
    held = dict.fromkeys(("mean", "new", "plain t", "resampled"), 0)
    user_sd = proportion * SEED_SD * USERS**0.5
    for cell in range(cells):
        seeds = KEPT + SEED_SD * rng.standard_normal(k + 1)
        full = 0.2 + 0.02 * rng.standard_normal(USERS)
        always = 0.2 * user_sd * rng.standard_normal(USERS)
        small = seeds[:-1, None] * full + always
        drawn = weights[cell % len(weights)]
        resampled = (small @ drawn) / (full @ drawn)
        found = spread((small.mean(1) / full.mean()).tolist(), resampled)
        assert found is not None
        assert found.of_new is not None
        assert found.seeds is not None
        held["mean"] += found.of_mean[0] <= KEPT <= found.of_mean[1]
        held["new"] += found.of_new[0] <= seeds[-1] <= found.of_new[1]
        plain = float(stdtrit(k - 1, 0.95)) * (found.users + found.seeds / k) ** 0.5
        held["plain t"] += abs(found.mean - KEPT) <= plain
        picked = np.take_along_axis(resampled, rng.integers(k, size=resampled.shape), axis=0).mean(0)
        low, high = np.quantile(picked, (0.05, 0.95))
        held["resampled"] += low <= KEPT <= high
    return {name: round(n / cells, 4) for name, n in held.items()}


if __name__ == "__main__":
    main()
