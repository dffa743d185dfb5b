"""A sweep whose outcome is known by its rule, written as a sweep writes it.

Model k of all data scores .3 - .04 k. A method of strength s keeps budget ** (s (1 + k / 4)) of that, so that the
ranking of the models stays; "reversed" turns it round at budgets below .2. Resamples and seeds add noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distill_at_scale.data import storage
from distill_at_scale.genie.trials import FULL, METRICS, SCHEMA, as_trials

MODELS = ("popularity", "ease", "svd_ae", "infinite_ae")
BUDGETS = (0.02, 0.05, 0.1, 0.3)
STRENGTHS = {
    "random": 0.30,
    "head_users": 0.02,
    "svp_mf_users_prop": 0.1,
    "temporal": 0.2,
    "reversed": 0.4,
    "sketch": 0.05,
}
MAKING = {
    "random": 0.4,
    "head_users": 0.6,
    "svp_mf_users_prop": 55.0,
    "temporal": 0.5,
    "reversed": 2000.0,
    "sketch": 6.0,
}
ROWS, USERS = 80_000, 1000
SKETCHED = ("ease", "infinite_ae")
"""models that learn from synthetic users"""
_RESAMPLES = 40


def full_score(k: int) -> float:
    """ndcg@10 of model k when fitted on everything, before noise."""
    return 0.3 - 0.04 * k


def kept(method: str, budget: float, k: int) -> float:
    """Share of it that model k keeps, before noise."""
    if method == "reversed" and budget < 0.2:
        return full_score(len(MODELS) - 1 - k) / full_score(k) * budget ** STRENGTHS[method]
    return float(budget ** (STRENGTHS[method] * (1 + k / 4)))


def rows(
    methods: tuple[str, ...] = tuple(STRENGTHS),
    models: tuple[str, ...] = MODELS,
    budgets: tuple[float, ...] = BUDGETS,
    seeds: int = 2,
    noise: float = 0.01,
    sized: bool = True,
) -> list[dict[str, Any]]:
    """Rows of trials: all models on all data and on what each method leaves, all done."""
    found = []
    rng = np.random.default_rng(7)
    users = rng.normal(size=_RESAMPLES)
    for seed in range(seeds):
        for method, budget in [(FULL, 1.0), *((m, b) for m in methods for b in budgets)]:
            for k, model in enumerate(models):
                if method == "sketch" and model not in SKETCHED:
                    continue
                share = 1.0 if method == FULL else kept(method, budget, k)
                score = full_score(k) * share * (1 + noise * rng.normal())
                # What the users drawn change is much the same for all trials; the rest is each trial's own.
                drawn = score * (1 + 0.1 * users + noise * rng.normal(size=_RESAMPLES))
                found.append(
                    {
                        "dataset": "rule",
                        "fingerprint": "f" * 16,
                        "method": method,
                        "budget": budget,
                        "seed": seed,
                        "model": model,
                        "status": "done",
                        "reason": "",
                        "rows": int((USERS if method == "sketch" else ROWS) * budget),
                        "share": budget,
                        "bytes": int(9 * ROWS * budget) if sized else None,
                        "make_cpu_s": 0.0 if method == FULL else MAKING[method],
                        "make_wall_s": 0.0,
                        "fit_cpu_s": 10.0 * (k + 1) * budget,
                        "fit_wall_s": 1.0,
                        **dict.fromkeys(METRICS, score),
                        "resampled": {metric: drawn.tolist() for metric in METRICS if metric != "auc"},
                    }
                )
    return found


def fail(row: dict[str, Any], reason: str) -> dict[str, Any]:
    """The same trial, failed."""
    empty = dict.fromkeys([name for name in SCHEMA if name in METRICS or name == "resampled"])
    return {**row, **empty, "status": "failed", "reason": reason}


def write_sweep(
    folder: Path, trials: list[dict[str, Any]], left: int = 0, left_out: tuple[str, ...] = (), **config: Any
) -> str:
    """A sweep's folder with these trials, ``left`` that are missing and sentences on what was left out."""
    folder.mkdir(parents=True, exist_ok=True)
    as_trials(trials).write_parquet(folder / "trials.parquet")
    about = {
        "data": {"uri": "s3://bucket/data", "fingerprint": "f" * 16, "train_rows": ROWS},
        "config": {"data": "s3://user:secret@bucket/data", "budgets": list(BUDGETS), **config},
        "versions": {"ray": "9.9"},
        "result": {"left": left, "left_out": list(left_out)},
    }
    storage.write_json(str(folder / "sweep.json"), about)
    return str(folder)
